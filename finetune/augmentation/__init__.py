"""How labelled rows are copied and changed, and which copies are trained on."""
