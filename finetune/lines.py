"""Read the text files of a data set line by line; every complaint names the file and the line."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from runtime.errors import DataError


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Line numbers from 1 and lines without their end.

    Only a line feed ends a line: texts contain U+2028 and its like. Raises DataError if the file
    cannot be read or is not UTF-8.
    """
    try:
        with path.open("rb") as file:
            for number, raw in enumerate(file, start=1):
                try:
                    line = raw.decode("utf-8-sig" if number == 1 else "utf-8")
                except UnicodeDecodeError as error:
                    raise DataError(
                        f"{path}:{number} is not UTF-8 ({error.reason} at byte {error.start} of "
                        "the line); convert the file to UTF-8"
                    ) from None
                yield number, line.rstrip("\r\n")
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from None


def read_objects(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Line numbers and objects of a JSONL file; empty lines are passed over."""
    for number, line in read_lines(path):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except ValueError as error:
            raise DataError(f"{path}:{number} is not valid JSON ({error})") from None
        if not isinstance(value, dict):
            raise DataError(
                f"{path}:{number} holds a {type(value).__name__}; expected a JSON object"
            )
        yield number, value


def field_of(row: dict[str, Any], name: str, path: Path, number: int, setting: str) -> Any:
    """A field that must be there. Raises DataError naming the fields that are."""
    if name not in row:
        raise DataError(
            f"{path}:{number} has no field {name!r}; it has {', '.join(map(repr, row)) or 'none'}; "
            f"set `{setting}` to the right one"
        )
    return row[name]
