"""Models for other runtimes, one file a format; export.py judges what they write."""
