"""Where labelled rows come from: files, and data sets of the `datasets` library.

A split of a data set becomes a JSONL file once, its class labels by name, so that every task reads
files only.
"""

from pathlib import Path
from typing import Any

from finetune.task import Source
from runtime import provenance
from runtime.errors import DataError


def local_file(source: Source, folder: Path, name: str) -> Path:
    """The file that holds these rows, written to `folder` if they come from elsewhere."""
    if isinstance(source, Path):
        return source
    raise DataError("STUB")


def fingerprint(source: Source) -> Any:
    """JSON that changes when the rows may have changed; loads nothing."""
    if isinstance(source, Path):
        return provenance.file_fingerprint(source)
    return source.model_dump(mode="json")


def missing(source: Source | None) -> bool:
    """True for a file that is not there."""
    return isinstance(source, Path) and not source.is_file()
