"""Augmentations of labelled rows, one file each; contract: finetune/augmentation/augmenting.py."""
