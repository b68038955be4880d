"""Augmentations of labelled rows, one file each; the contract is in finetune/augmenting.py."""
