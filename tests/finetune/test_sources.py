"""Splits of data sets of the `datasets` library become JSONL files with names for class labels."""

import json
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from datasets import ClassLabel, Dataset, Features, List, Value, disable_progress_bars

from finetune import sources
from finetune.config import Recipe
from finetune.prepare import read
from finetune.task import Split
from runtime import recipe
from runtime.errors import DataError


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not the cache of the user."""
    cache = tmp_path_factory.mktemp("cache")
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", cache)


def rows_of(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def parquet(folder: Path, **columns: tuple[Any, list[Any]]) -> Path:
    """A data set of one parquet file; a column is its feature and its values."""
    disable_progress_bars()
    folder.mkdir()
    features = Features({name: feature for name, (feature, _) in columns.items()})
    values = {name: found for name, (_, found) in columns.items()}
    Dataset.from_dict(values, features=features).to_parquet(str(folder / "train.parquet"))
    return folder


def test_a_file_stays_where_it_is(tmp_path: Path) -> None:
    path = tmp_path / "train.conll"
    assert sources.local_file(path, tmp_path / "inputs", "t") == path
    assert not (tmp_path / "inputs").exists()
    assert sources.missing(path)
    assert not sources.missing(None)


def test_class_labels_get_their_names_at_any_depth(tmp_path: Path) -> None:
    tag = ClassLabel(names=["O", "B-PER"])
    folder = parquet(
        tmp_path / "set",
        tokens=(List(Value("string")), [["Ada", "ran"], []]),
        ner_tags=(List(tag), [[1, 0], []]),
        label=(ClassLabel(names=["neg", "pos"]), [1, -1]),
        spans=(List({"start": Value("int32"), "label": tag}), [[{"start": 0, "label": 1}], []]),
        day=(Value("date32"), [date(2020, 1, 2), None]),
        picture=(Value("binary"), [b"x", b"y"]),
    )
    path = sources.local_file(Split(dataset=str(folder), split="train"), tmp_path, "people-train")
    assert rows_of(path) == [
        {"tokens": ["Ada", "ran"], "ner_tags": ["B-PER", "O"], "label": "pos",
         "spans": [{"start": 0, "label": "B-PER"}], "day": "2020-01-02"},
        {"tokens": [], "ner_tags": [], "label": None, "spans": [], "day": None},
    ]  # fmt: skip
    assert path.name.startswith("people-train-")
    assert [path.name for path in tmp_path.glob("*.jsonl")] == [path.name]


def test_a_split_is_written_once_and_again_when_its_files_change(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    (folder / "train.csv").write_text("text,label\ngood,pos\nbad,neg\nfine,pos\n")
    split = Split(dataset=str(folder), split="train")
    first = sources.local_file(split, tmp_path, "t")
    before = first.stat().st_mtime_ns
    assert sources.local_file(split, tmp_path, "t") == first
    assert first.stat().st_mtime_ns == before
    part = sources.local_file(Split(dataset=str(folder), split="train[1:]"), tmp_path, "t")
    assert [row["text"] for row in rows_of(part)] == ["bad", "fine"]
    told = sources.fingerprint(split)
    (folder / "train.csv").write_text("text,label\ngreat,pos\n")
    assert sources.fingerprint(split) != told
    second = sources.local_file(split, tmp_path, "t")
    assert second != first
    assert rows_of(second) == [{"text": "great", "label": "pos"}]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"dataset": "nobody/none"}, r"'nobody/none': Couldn't reach .*HF_HOME, is used\), or set"),
        ({"dataset": "./absent"}, r"the data set folder \./absent does not exist"),
        ({"split": "dev"}, "Unknown split \"dev\".*check its files and the names of split"),
        ({"config": "english"}, "config 'english': BuilderConfig 'english' not found"),
        ({"split": "train[:0]"}, "corresponds to no data"),
    ],
)  # fmt: skip
def test_what_cannot_be_read(tmp_path: Path, given: dict[str, str], message: str) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "train.jsonl").write_text('{"text": "good"}\n')
    table = {"dataset": str(tmp_path / "set"), "split": "train"} | given
    with pytest.raises(DataError, match=message):
        sources.local_file(Split(**table), tmp_path, "t")
    assert not list(tmp_path.glob("*.jsonl"))
    assert not list(tmp_path.glob(".*.tmp"))


def test_a_damaged_file_is_told_with_its_cause(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "train.parquet").write_text("no parquet")
    with pytest.raises(DataError, match=r"data set .*set': (?!An error occurred).*[Pp]arquet"):
        sources.local_file(Split(dataset=str(tmp_path / "set"), split="train"), tmp_path, "t")


def test_a_task_reads_a_split(workplace: Path) -> None:
    folder = workplace / "reviews"
    folder.mkdir()
    (workplace / "train.jsonl").rename(folder / "train.jsonl")
    overrides = [
        f'tasks.reviews.train={{dataset = "{folder}", split = "train"}}',
        f'output="{workplace / "run"}"',
        f'tasks.reviews.valid="{workplace / "valid.jsonl"}"',
        f'tasks.reviews.test="{workplace / "test.jsonl"}"',
    ]
    found = recipe.load(workplace / "recipe.toml", overrides, Recipe)
    data = read(found, "reviews")
    assert len(data["train"].rows) == 64
    assert data["train"].path.parent == workplace / "run" / "finetune" / "inputs"
