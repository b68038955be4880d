"""The encoder: built, packed, proven, scored."""
