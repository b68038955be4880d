"""Task plug-ins, one file each: what a task reads, how it is encoded, decoded and scored."""
