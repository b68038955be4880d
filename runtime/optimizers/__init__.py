"""The optimizers of `optimizer.name`, each written for flat shares of sharded parameters."""
