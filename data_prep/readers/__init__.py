"""Corpus readers: one file each, found by file name. The contract is in `data_prep/sources.py`."""
