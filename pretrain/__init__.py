"""Shards to encoder: masked-LM pretraining on a mixture of domains."""
