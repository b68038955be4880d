"""Raw corpora to shards: read, clean, deduplicate, tokenize, pack. Never imports torch."""
