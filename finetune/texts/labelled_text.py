"""Files of labelled texts: one text or a pair a row, with whatever labels it.

csv, tsv     columns by the names of a header line, or by number in a file without one; CSV cells
             may be quoted, TSV cells never are
jsonl        one object a line
label_first  a label, white space, and the text up to the end of the line; no other columns

Files may be compressed (.gz, .zst, .bz2, .xz). A file holds one split: one JSON document with
several splits (CLINC150) is written as JSON lines first, a file each. Empty lines are passed over,
empty texts are rows and counted. Refused, with file and line: a column that is not there, rows of
unequal length, something that is neither text nor number. What a label may be is up to the task;
its plug-in takes `from_inputs`, `groups` and `texts` from here as they are.
"""

import csv
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from data_prep.compression import ending_of
from finetune import lines
from finetune.task import Dataset, Task
from runtime.errors import DataError

Label = str | tuple[str, ...] | float
BY_NAME = {".csv": "csv", ".tsv": "tsv", ".jsonl": "jsonl"}


class Columns(Task):
    """Where texts and labels stand in a file, and what becomes of long texts."""

    format: Literal["csv", "tsv", "jsonl", "label_first"] | None = None  # None: by file name
    encoding: str = lines.UTF_8  # of the files, for example "cp1252"
    text_field: str | int = "text"  # a number is a column of a file without a header line
    text_pair_field: str | int | None = None  # second text; None: one text a row
    label_field: str | int = "label"  # name or number of a column, like text_field
    # What becomes of a text that the model input cannot hold (of a pair: of the longer text).
    # cut: its end is cut off. head_tail: its middle is, a quarter of what stays is its beginning
    # (Sun et al. 2019, arXiv 1905.05583). windows: overlapping parts, each learnt with the row's
    # label, so long rows weigh more; their predictions are averaged.
    long_texts: Literal["cut", "head_tail", "windows"] = "cut"
    window_overlap: int = Field(default=64, ge=0)  # tokens that neighbouring windows share

    @property
    def fields(self) -> dict[str, str | int]:
        """Settings and the columns they name, the pair only if there is one."""
        named = {"text_field": self.text_field, "label_field": self.label_field}
        if self.text_pair_field is not None:
            named["text_pair_field"] = self.text_pair_field
        return named

    @field_validator("encoding")
    @classmethod
    def keeps_line_ends(cls, encoding: str) -> str:
        try:
            is_fit = "\n".encode(encoding) == b"\n"
        except LookupError:
            is_fit = False
        if not is_fit:
            raise ValueError(f"cannot read encoding {encoding!r}; convert the files to UTF-8")
        return encoding

    @model_validator(mode="after")
    def fields_are_alike(self) -> Self:
        if len({type(field) for field in self.fields.values()}) > 1:
            raise ValueError("fields must be all names or all column numbers")
        if self.format == "label_first" and self.fields != {
            "text_field": "text",
            "label_field": "label",
        }:
            raise ValueError("format 'label_first' has no columns: leave out the fields")
        return self


@dataclass(frozen=True)
class Row:
    """One text, or a pair, and what labels it (None when it is to be predicted)."""

    texts: tuple[str, ...]
    label: Any  # a Label; its kind is that of the task
    line: int


def read(path: Path, params: Columns, label_of: Callable[[Any, Path, int], Label]) -> Dataset:
    """Read the rows of a file. `label_of` makes a label of what stands in its column.

    Raises DataError if there are no rows.
    """
    kind = params.format or BY_NAME.get(Path(path.name.removesuffix(ending_of(path.name))).suffix)
    if kind is None:
        raise DataError(f"cannot tell the format of {path} from its name; set `format`")
    counts: Counter[str] = Counter()
    rows = []
    for number, record in records(path, kind, params):
        values = {
            setting: lines.field_of(record, str(name), path, number, setting)
            for setting, name in params.fields.items()
        }
        label = label_of(values.pop("label_field"), path, number)
        texts = tuple(plain(text, path, number) for text in values.values())
        counts["empty_texts"] += not all(text.strip() for text in texts)
        counts["rows"] += 1
        rows.append(Row(texts, label, number))
    if not rows:
        raise DataError(f"{path} holds no rows (format {kind!r}); is it the right file?")
    return Dataset(path, rows, dict(counts))


def records(path: Path, kind: str, params: Columns) -> Iterator[tuple[int, dict[str, Any]]]:
    """Line numbers and the columns of each row by name."""
    if kind == "jsonl":
        yield from lines.read_objects(path, params.encoding)
    elif kind == "label_first":
        for number, line in lines.read_lines(path, params.encoding):
            if parts := line.split(maxsplit=1):
                yield number, {"label": parts[0], "text": "".join(parts[1:])}
    else:
        yield from table(path, kind, params)


def table(path: Path, kind: str, params: Columns) -> Iterator[tuple[int, dict[str, Any]]]:
    """Rows of a CSV (quoted) or TSV (never quoted) file by column; columns without header have
    numbers."""
    csv.field_size_limit(1 << 30)
    text = (line + "\n" for _, line in lines.read_lines(path, params.encoding))
    reader = (
        csv.reader(text, strict=True)
        if kind == "csv"
        else csv.reader(text, delimiter="\t", quoting=csv.QUOTE_NONE)
    )
    names: list[str] | None = None
    has_header = isinstance(params.text_field, str)
    start = 1
    try:
        for cells in reader:
            number, start = start, reader.line_num + 1
            if not cells:
                continue
            if names is None:
                names = cells if has_header else [str(i) for i in range(len(cells))]
                if has_header:
                    refuse_repeated(names, params, path, number)
                    continue
            if len(cells) != len(names):
                raise DataError(
                    f"{path}:{number} has {len(cells)} cells, its "
                    f"{'header' if has_header else 'first row'} {len(names)}; "
                    "quote cells that hold the separator, or set `format`"
                )
            yield number, dict(zip(names, cells, strict=True))
    except csv.Error as error:
        raise DataError(f"{path}:{start} is not valid {kind.upper()} ({error})") from None


def refuse_repeated(names: Sequence[str], params: Columns, path: Path, number: int) -> None:
    """Raise DataError if a column that is read stands in the header more than once."""
    for field in params.fields.values():
        if names.count(str(field)) > 1:
            raise DataError(f"{path}:{number} names column {field!r} twice; rename one of them")


def plain(value: Any, path: Path, number: int) -> str:
    """A cell as text. Raises DataError if it is a list, an object or nothing."""
    if isinstance(value, str):
        return value
    if isinstance(value, (int, float)):  # labels are often numbers, or true and false
        return str(value)
    raise DataError(
        f"{path}:{number}: {value!r} is neither text nor a number; texts and labels must be"
    )


def name_of(value: Any, path: Path, number: int) -> str:
    """The name of a class. Raises DataError if it is empty."""
    label = plain(value, path, number).strip()
    if not label:
        raise DataError(f"{path}:{number} has an empty label; give it one or remove the row")
    return label


def unknown(label: str, labels: Sequence[str], path: Path, number: int) -> DataError:
    """The complaint about a label that is not in the set."""
    shown = ", ".join(list(labels)[:20]) + (", ..." if len(labels) > 20 else "")
    return DataError(
        f"{path}:{number}: label {label!r} is not in the label set ({shown}), which comes from "
        "`labels` or the training file; correct it or add it there"
    )


def weights_by_name(given: Mapping[str, float], labels: Sequence[str]) -> tuple[float, ...]:
    """Weights in the order of the labels. Raises DataError if one is of another label."""
    if strange := [label for label in given if label not in labels]:
        raise DataError(
            f"class_weights names {', '.join(map(repr, strange))}; the labels are "
            f"{', '.join(list(labels)[:20])}{', ...' if len(labels) > 20 else ''}"
        )
    return tuple(given.get(label, 1.0) for label in labels)


def from_inputs(inputs: Sequence[dict[str, Any]], params: Columns) -> Dataset:
    """Rows to predict, from objects with the task's text fields (`text`, `text_pair` if those are
    numbers). Raises DataError if one lacks a text."""
    is_named = isinstance(params.text_field, str)
    names = (params.text_field, params.text_pair_field) if is_named else ("text", "text_pair")
    wanted = [str(name) for name in names[: 1 + (params.text_pair_field is not None)]]
    rows = []
    for number, given in enumerate(inputs, start=1):
        texts = [given.get(name) for name in wanted]
        if not all(isinstance(text, str) for text in texts):
            raise DataError(
                f"input {number} needs a string in each of {', '.join(map(repr, wanted))}; "
                f"it has {', '.join(map(repr, given)) or 'nothing'}"
            )
        rows.append(Row(tuple(map(str, texts)), None, number))
    return Dataset(Path("input"), list(rows))


def groups(dataset: Dataset) -> list[int]:
    """The document of every row: each is one of its own."""
    return list(range(len(dataset.rows)))


def texts(row: Row) -> tuple[str, ...]:
    """What leak checks compare."""
    return row.texts
