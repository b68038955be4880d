"""Augmentations; the file name is the name in recipes. Contract: data_prep/augmenting.py."""
