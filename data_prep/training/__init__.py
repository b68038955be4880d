"""How tokenizers are trained; one file per kind."""
