"""Ways to turn texts into token ids; each gives the ids of tokenizer.json or is not used."""
