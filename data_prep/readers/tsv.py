"""TSV: one document a row, fields separated by tabs; all else is as in `csv`."""

from data_prep.readers import csv
from data_prep.readers.csv import inputs, parts, read

__all__ = ["Params", "inputs", "parts", "read"]


class Params(csv.Params):
    """Reads rows of values separated by tabs."""

    delimiter: str | None = "\t"  # one character
