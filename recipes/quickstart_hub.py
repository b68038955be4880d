"""Write the tasks of quickstart-hub.toml from public data sets of the hub.

    python recipes/quickstart_hub.py FOLDER

    FOLDER/news/       AG News: which of four sections a news item belongs to; {"text", "label"}
    FOLDER/entities/   WikiANN, English: persons, organisations, places; {"tokens", "tags"}

Each as train, dev and test JSON lines, the first rows of the data set's own splits in a fixed
shuffle. AG News has no dev split: it is taken from the end of the shuffled training rows. A file
that exists is kept; HF_HUB_OFFLINE and HF_HOME work as always.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from datasets import Dataset, load_dataset

from runtime import provenance
from runtime.errors import DataError, run_command

SEED = 0
ROWS = {"train": 2000, "dev": 500, "test": 1000}
Row = dict[str, Any]


def news(split: Dataset) -> Iterable[Row]:
    names = split.features["label"].names
    return ({"text": row["text"], "label": names[row["label"]]} for row in split)


def entities(split: Dataset) -> Iterable[Row]:
    names = split.features["ner_tags"].feature.names
    return (
        {"tokens": row["tokens"], "tags": [names[tag] for tag in row["ner_tags"]]} for row in split
    )


def splits_of(path: str, config: str | None) -> dict[str, Dataset]:
    """The first rows of each split of a data set, shuffled. Raises DataError without a hub."""
    try:
        found = load_dataset(path, config)
    except (OSError, ValueError) as error:  # datasets' own errors are of these kinds
        raise DataError(
            f"cannot load {path} from the hub ({error}); without one run `make quickstart` as it "
            "is: it needs no network"
        ) from None
    shuffled = {name: split.shuffle(seed=SEED) for name, split in found.items()}
    train = shuffled["train"]
    held_out = range(len(train) - ROWS["dev"], len(train))
    dev = shuffled.get("validation", train.select(held_out))
    return {
        name: split.select(range(min(ROWS[name], len(split))))
        for name, split in (("train", train), ("dev", dev), ("test", shuffled["test"]))
    }


def write(folder: Path, path: str, config: str | None, rows: Callable[[Dataset], Any]) -> None:
    """Write the splits of one task that are not there yet."""
    files = {name: folder / f"{name}.jsonl" for name in ROWS}
    if all(file.is_file() for file in files.values()):
        print(f"{folder}: up to date")
        return
    folder.mkdir(parents=True, exist_ok=True)
    for name, split in splits_of(path, config).items():
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows(split))
        provenance.write_text(files[name], lines)
        print(f"{files[name]}: {len(split):,} rows of {path}")


def write_all(folder: Path) -> None:
    write(folder / "news", "fancyzhx/ag_news", None, news)
    write(folder / "entities", "unimelb-nlp/wikiann", "en", entities)


def main() -> int:
    parser = argparse.ArgumentParser(description="Write tasks from public data sets of the hub.")
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    return run_command(lambda: write_all(folder))


if __name__ == "__main__":
    sys.exit(main())
