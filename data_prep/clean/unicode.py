"""Unicode clean-up."""

from data_prep.cleaning import Step


class Params(Step):
    """."""
