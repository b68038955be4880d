"""Is everything ready for a run: what is wrong, where, and how to put it right."""
