"""Hyper-parameter search and cross-validation."""
