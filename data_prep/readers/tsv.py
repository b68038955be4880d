"""TSV: one document a row, fields separated by tabs; all else is as in `csv`.

A quote is a character like others unless `quotes` is set: in files written without quoting, a text
that begins with one would swallow the rows behind it.
"""

from data_prep.readers import csv
from data_prep.readers.csv import inputs, parts, read

__all__ = ["Params", "inputs", "parts", "read"]


class Params(csv.Params):
    """Reads rows of values separated by tabs."""

    delimiter: str | None = "\t"  # one character
    quotes: bool = False  # True: as spreadsheets write, a quoted field may hold tabs and line ends
