"""The public labelled sets of TEXTMILL_DATA (default ../shared/data) as files that we and the
Trainer's drivers both read."""

import csv
import json
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
DATA = Path(os.environ.get("TEXTMILL_DATA", ROOT.parent / "shared/data")) / "tasks"


@dataclass(frozen=True)
class Set:
    """One labelled set as files that both systems read."""

    kind: str  # ner or classification
    epochs: int
    metric: str
    files: dict[str, str]  # train, valid (if there is one) and test, below TEXTMILL_DATA/tasks
    columns: tuple[str, str] = ("0", "-1")  # of words and tags, or of texts and labels
    settings: dict[str, Any] = field(default_factory=dict)  # of our task
    context: dict[str, Any] | None = None  # what `context` adds to them


def conll(
    folder: str, names: Sequence[str], epochs: int, context: dict[str, Any] | None = None
) -> Set:
    files = dict(zip(("train", "valid", "test"), names, strict=True))
    return Set(
        "ner", epochs, "f1", {k: f"{folder}/{name}" for k, name in files.items()}, context=context
    )


# The first rows of a training file do not hold all of them.
CHEMPROT_LABELS = [
    "ACTIVATOR", "AGONIST", "AGONIST-ACTIVATOR", "AGONIST-INHIBITOR", "ANTAGONIST",
    "DOWNREGULATOR", "INDIRECT-DOWNREGULATOR", "INDIRECT-UPREGULATOR", "INHIBITOR", "PRODUCT-OF",
    "SUBSTRATE", "SUBSTRATE_PRODUCT-OF", "UPREGULATOR",
]  # fmt: skip
AS_THE_DRIVER = {"max_length": 256}  # tokens, where finetune_hf_classification.py cuts texts
CHINESE_ROWS = 3000  # of ChnSentiCorp's 9,600: its texts are long
# MiniLM was last trained on 128 tokens. A window scores two to three sentences: a step of 8 has
# about as many as one of 16 of them.
DOCUMENTS = {
    "context": "document", "shown_tokens": 128, "scored_tokens": 64,
    "batch_size": 8, "micro_batch_size": 8,
}  # fmt: skip
SCIBERT = ("train.txt", "dev.txt", "test.txt")
SETS = {
    "wnut17": conll(
        "wnut17",
        ("wnut17train.conll", "emerging.dev.conll", "emerging.test.annotated"),
        3,
    ),
    "ncbi-disease": conll("ncbi-disease", SCIBERT, 2, {**DOCUMENTS, "documents": "file"}),
    "bc5cdr": conll("bc5cdr", SCIBERT, 2, DOCUMENTS),
    "banking77": Set(
        "classification", 3, "accuracy",
        {"train": "banking77/train.csv", "test": "banking77/test.csv"}, ("text", "category"),
        settings=AS_THE_DRIVER,
    ),
    "clinc150": Set(
        "classification", 2, "accuracy",
        {"train": "train.jsonl", "valid": "val.jsonl", "test": "test.jsonl"}, ("text", "label"),
        settings=AS_THE_DRIVER,
    ),
    "chnsenticorp": Set(
        "classification", 1, "accuracy",
        {"train": "train.jsonl", "test": "dev.jsonl"}, ("text", "label"),
        settings=AS_THE_DRIVER,
    ),
}  # fmt: skip


def written(name: str, folder: Path, rows_kept: int | None) -> dict[str, Path]:
    """The files of a set, made where the set comes in a form that one system does not read, or
    only the first rows are wanted."""
    target = folder / name
    target.mkdir()
    files: dict[str, Path] = {}
    for split, file in SETS[name].files.items():
        if name == "clinc150":
            splits = json.loads((DATA / "clinc150/data_full.json").read_text(encoding="utf-8"))
            rows: Iterator[Any] = iter(splits[Path(file).stem])
            files[split] = jsonl(target / file, rows)
        elif name == "chnsenticorp":
            with (DATA / "chnsenticorp" / f"{Path(file).stem}.tsv").open(encoding="utf-8") as lines:
                rows = iter([line.rstrip("\n").rsplit("\t", 1) for line in lines][:CHINESE_ROWS])
                files[split] = jsonl(target / file, rows)
        else:
            files[split] = DATA / file
        if rows_kept is not None:
            files[split] = head(files[split], target / f"head-{Path(file).name}", rows_kept)
    return files


def jsonl(path: Path, rows: Iterator[Any]) -> Path:
    lines = [json.dumps({"text": text, "label": label}, ensure_ascii=False) for text, label in rows]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def head(source: Path, target: Path, num_rows: int) -> Path:
    """The first sentences of a file; of texts, which may be sorted by label, rows all over it."""
    text = source.read_text(encoding="utf-8")
    if source.suffix == ".csv":
        rows = list(csv.reader(text.splitlines()))
        with target.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([rows[0], *spread(rows[1:], num_rows)])
    elif text.startswith("{"):  # JSON lines, whatever the file is called
        target.write_text("\n".join(spread(text.splitlines(), num_rows)) + "\n", encoding="utf-8")
    else:
        sentences = re.split(r"\n[ \t]*\n", text)
        target.write_text("\n\n".join(sentences[:num_rows]) + "\n", encoding="utf-8")
    return target


def spread(rows: Sequence[Any], count: int) -> list[Any]:
    """So many rows at equal distances."""
    return [rows[i * len(rows) // count] for i in range(min(count, len(rows)))]
