"""Read the text files of a data set line by line; every complaint names the file and the line.

Files whose names end in .gz, .zst, .bz2 or .xz are decompressed.
"""

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from data_prep.compression import Damaged, Unpacked, ending_of
from runtime.errors import DataError

UTF_8 = "utf-8"
MAX_RATIO = 200  # unpacked to packed bytes; above: a bomb


def read_lines(path: Path, encoding: str = UTF_8) -> Iterator[tuple[int, str]]:
    """Line numbers from 1 and lines without their end.

    Only a line feed ends a line: texts contain U+2028 and its like. Raises DataError if the file
    cannot be read or is not in this encoding.
    """
    try:
        with opened(path) as file:
            for number, raw in enumerate(file, start=1):
                is_marked = number == 1 and encoding == UTF_8  # a byte order mark is no text
                try:
                    line = raw.decode("utf-8-sig" if is_marked else encoding)
                except UnicodeDecodeError as error:
                    raise DataError(
                        f"{path}:{number} is not {encoding.upper()} ({error.reason} at byte "
                        f"{error.start} of the line); convert the file to UTF-8"
                    ) from None
                yield number, line.rstrip("\r\n")
    except Damaged as error:
        raise DataError(f"cannot read {path}: {error}") from None
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from None


def opened(path: Path) -> BinaryIO:
    """The bytes of a file, decompressed if its name says that they are packed."""
    file = path.open("rb")
    ending = ending_of(path.name)
    return io.BufferedReader(Unpacked(file, ending, MAX_RATIO)) if ending else file


def read_objects(path: Path, encoding: str = UTF_8) -> Iterator[tuple[int, dict[str, Any]]]:
    """Line numbers and objects of a JSONL file; empty lines are passed over."""
    for number, line in read_lines(path, encoding):
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
