"""Sequence classification: one label for a text or a pair of texts.

A text longer than the model input is cut at its end (of a pair, the longer text is cut first); the
rows and tokens that were cut are counted and reported.
"""

import csv
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import model_validator

from finetune import lines
from finetune.logits import log_softmax
from finetune.task import IGNORED, Dataset, Encoded, Loss, Scores, Task, Window
from finetune.tokenizer import Tokenizer
from runtime.errors import DataError

HEAD = "sequence"


class Params(Task):
    """One label for a text or a pair of texts."""

    kind: Literal["classification"] = "classification"
    format: Literal["csv", "tsv", "jsonl"] | None = None  # None: by file name
    text_field: str | int = "text"  # a number is a column of a file without a header line
    text_pair_field: str | int | None = None  # second text; None: one text a row
    label_field: str | int = "label"  # name or number of a column, like text_field
    labels: tuple[str, ...] | None = None  # None: those of the training file, sorted
    metric: Literal["accuracy", "macro_f1", "micro_f1", "mcc"] = (
        "accuracy"  # chooses the best checkpoint and stops early
    )

    @property
    def fields(self) -> dict[str, str | int]:
        """Settings and the columns they name, the pair only if there is one."""
        named = {"text_field": self.text_field, "label_field": self.label_field}
        if self.text_pair_field is not None:
            named["text_pair_field"] = self.text_pair_field
        return named

    @model_validator(mode="after")
    def fields_are_alike(self) -> Self:
        if len({type(field) for field in self.fields.values()}) > 1:
            raise ValueError("fields must be all names or all column numbers")
        return self


@dataclass(frozen=True)
class Row:
    """One text, or a pair, and its label (None when it is to be predicted)."""

    texts: tuple[str, ...]
    label: str | None
    line: int


@dataclass(frozen=True)
class Prediction:
    """The most probable label and the probability of every label."""

    label: str
    probabilities: NDArray[np.float32]


def read(path: Path, params: Params) -> Dataset:
    """Read the rows of a file. Raises DataError if there are none."""
    kind = params.format or {".csv": "csv", ".tsv": "tsv", ".jsonl": "jsonl"}.get(path.suffix)
    if kind is None:
        raise DataError(f"cannot tell the format of {path} from its name; set `format`")
    records = lines.read_objects(path) if kind == "jsonl" else read_table(path, kind, params)
    counts: Counter[str] = Counter()
    rows = []
    for number, record in records:
        values = {
            setting: plain(lines.field_of(record, str(name), path, number, setting), path, number)
            for setting, name in params.fields.items()
        }
        label = values.pop("label_field").strip()
        if not label:
            raise DataError(f"{path}:{number} has an empty label; give it one or remove the row")
        counts["empty_texts"] += not all(text.strip() for text in values.values())
        counts["rows"] += 1
        rows.append(Row(tuple(values.values()), label, number))
    if not rows:
        raise DataError(f"{path} holds no rows (format {kind!r}); is it the right file?")
    return Dataset(path, rows, dict(counts))


def read_table(path: Path, kind: str, params: Params) -> Iterator[tuple[int, dict[str, Any]]]:
    """Rows of a CSV (quoted) or TSV (never quoted) file by column; columns without header have
    numbers."""
    csv.field_size_limit(1 << 30)
    has_header = isinstance(params.text_field, str)
    text = (line + "\n" for _, line in lines.read_lines(path))
    reader = (
        csv.reader(text, strict=True)
        if kind == "csv"
        else csv.reader(text, delimiter="\t", quoting=csv.QUOTE_NONE)
    )
    header: list[str] | None = None
    start = 1
    try:
        for cells in reader:
            number, start = start, reader.line_num + 1
            if not cells:
                continue
            if has_header and header is None:
                header = cells
                continue
            if header is not None and len(cells) != len(header):
                raise DataError(
                    f"{path}:{number} has {len(cells)} cells, its header {len(header)}; "
                    "quote cells that hold the separator, or set `format`"
                )
            names = header or [str(i) for i in range(len(cells))]
            yield number, dict(zip(names, cells, strict=True))
    except csv.Error as error:
        raise DataError(f"{path}:{start} is not valid {kind.upper()} ({error})") from None


def plain(value: Any, path: Path, number: int) -> str:
    """A cell as text. Raises DataError if it is a list, an object or nothing."""
    if isinstance(value, str):
        return value
    if isinstance(value, (int, float)):  # labels are often numbers, or true and false
        return str(value)
    raise DataError(
        f"{path}:{number}: {value!r} is neither text nor a number; texts and labels must be"
    )


def label_set(dataset: Dataset, params: Params) -> list[str]:
    """The labels the recipe names, else those of the training rows, sorted."""
    found = sorted({row.label for row in dataset.rows})
    labels = list(params.labels) if params.labels is not None else found
    if len(set(labels)) < 2:
        raise DataError(
            f"{dataset.path} holds the single label {labels[0]!r}; classification needs two"
        )
    if params.labels is not None:
        check_labels(dataset, labels)
    return labels


def check_labels(dataset: Dataset, labels: Sequence[str]) -> None:
    """Raise DataError at the first label that is not in the set."""
    known = set(labels)
    for row in dataset.rows:
        if row.label not in known:
            shown = ", ".join(list(labels)[:20]) + (", ..." if len(labels) > 20 else "")
            raise DataError(
                f"{dataset.path}:{row.line}: label {row.label!r} is not in the label set ({shown}),"
                " which comes from `labels` or the training file; correct it or add it there"
            )


def from_inputs(inputs: Sequence[dict[str, Any]], params: Params) -> Dataset:
    """Rows to predict, from objects with the task's text fields (`text`, `text_pair` if those are
    numbers)."""
    names = ["text", "text_pair"] if isinstance(params.text_field, int) else []
    names = names or [params.text_field, params.text_pair_field]  # type: ignore[list-item]
    wanted = names[: 1 + (params.text_pair_field is not None)]
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


def encode(
    dataset: Dataset,
    tokenizer: Tokenizer,
    labels: Sequence[str],
    params: Params,
    max_length: int,
) -> Encoded:
    """Every row as one window, cut to `max_length` tokens."""
    ids = {label: i for i, label in enumerate(labels)}
    is_pair = params.text_pair_field is not None
    template = tokenizer.pair if is_pair else tokenizer.single
    capacity = max_length - template.num_special
    columns = [tokenizer.tokens([row.texts[i] for row in dataset.rows]) for i in range(1 + is_pair)]
    counts: Counter[str] = Counter()
    windows = []
    for i, parts in enumerate(zip(*columns, strict=True)):
        kept = [part.ids for part in parts]
        num_cut = sum(map(len, kept)) - capacity
        counts["tokens"] += sum(map(len, kept))
        if num_cut > 0:
            counts["rows_cut"] += 1
            counts["tokens_cut"] += num_cut
            kept = cut_longest(kept, capacity)
        input_ids, types, _ = template.build(*kept)
        target = ids.get(dataset.rows[i].label, IGNORED)
        windows.append(
            Window(
                i,
                input_ids,
                types if is_pair else None,
                np.zeros(1, dtype=np.int64),
                np.array([target], dtype=np.int64),
                np.zeros(1, dtype=np.int64),
            )
        )
    return Encoded(windows, dict(counts))


def cut_longest(parts: Sequence[NDArray[np.int32]], capacity: int) -> list[NDArray[np.int32]]:
    """Cut texts at their end to `capacity` tokens together, the longer one first."""
    shortest = min(map(len, parts))
    if len(parts) == 1:
        return [parts[0][:capacity]]
    keep = max(capacity - shortest, capacity // 2)
    if shortest > capacity // 2:  # both are cut, to halves
        return [parts[0][: capacity - capacity // 2], parts[1][: capacity // 2]]
    return [part[:keep] if len(part) > keep else part for part in parts]


def decode(
    dataset: Dataset,
    encoded: Encoded,
    logits: Sequence[NDArray[np.float32]],
    labels: Sequence[str],
    decoding: Mapping[str, Any],
) -> list[Prediction]:
    """The most probable label of every row."""
    found = []
    for row in logits:
        probabilities = np.exp(log_softmax(row[0]))
        found.append(Prediction(labels[int(row[0].argmax())], probabilities))
    return found


def loss(dataset: Dataset, labels: Sequence[str], params: Params) -> Loss:
    """Cross-entropy of labels."""
    return Loss()


def calibrate(
    dataset: Dataset,
    encoded: Encoded,
    logits: Sequence[NDArray[np.float32]],
    labels: Sequence[str],
    decoding: Mapping[str, Any],
) -> dict[str, Any]:
    """Decoding as fitted on valid rows."""
    return dict(decoding)


def groups(dataset: Dataset) -> list[int]:
    """Every row is a document of its own."""
    return list(range(len(dataset.rows)))


def texts(row: Row) -> tuple[str, ...]:
    """What leak checks compare."""
    return row.texts


def score(dataset: Dataset, predictions: Sequence[Prediction], labels: Sequence[str]) -> Scores:
    """Class scores and the confusion matrix."""
    from finetune import metrics  # late: see its docstring

    gold = [row.label for row in dataset.rows]
    return metrics.classes(gold, [prediction.label for prediction in predictions], labels)


def baselines(
    train: Dataset, dataset: Dataset, labels: Sequence[str]
) -> dict[str, dict[str, float]]:
    """`majority`: the most frequent label of the training rows everywhere."""
    from finetune import metrics  # late: see its docstring

    seen = Counter(row.label for row in train.rows)
    most = max(sorted(seen), key=lambda label: seen[label])
    gold = [row.label for row in dataset.rows]
    return {"majority": metrics.classes(gold, [most] * len(gold), labels).metrics}


def answer(row: Row, prediction: Prediction, labels: Sequence[str]) -> dict[str, Any]:
    """The label and the probability of every label, most probable first."""
    order = np.argsort(-prediction.probabilities, kind="stable")
    return {
        "label": prediction.label,
        "probabilities": {labels[i]: round(float(prediction.probabilities[i]), 6) for i in order},
    }
