"""Encoder to task models: NER and classification, evaluation, prediction, export."""
