"""Copies between splits by hand, and rows found in real shards, token by token."""

import json
import logging
import random
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer as Backend

from data_prep.shards import Corpus
from finetune.reports import leaks, shard_search
from finetune.task import Dataset
from finetune.tasks import classification, ner
from finetune.texts.labelled_text import Row
from finetune.tokenizer import Tokenizer
from runtime import provenance
from tests.finetune.conftest import WORDS, write_encoder
from tests.ranks import ROOT

LONG = "carla met dan in new york and ada visited oslo with bob today in paris"
ELSEWHERE = "the lovely film was good in lima but awful in rome with a bad play"


def prepared(
    plugin: ModuleType = classification, tokenizer: Any = None, fingerprint: str = "", **rows: Any
) -> Any:
    """What the checks read of a task."""
    return SimpleNamespace(
        name="reviews",
        plugin=plugin,
        data={split: Dataset(Path(split), list(found)) for split, found in rows.items()},
        scored=[split for split in ("valid", "test") if split in rows],
        encoder=SimpleNamespace(
            tokenizer=tokenizer, tokenizer_fingerprint=fingerprint, folder=Path("nowhere")
        ),
    )


def labelled(*pairs: tuple[str, str]) -> list[Row]:
    return [Row((text,), label, line) for line, (text, label) in enumerate(pairs, start=1)]


def test_copies_by_hand() -> None:
    task = prepared(
        train=labelled(("good film", "pos"), ("bad film", "neg"), ("good film", "pos")),
        valid=labelled(("good film", "pos"), ("Bad  Film", "neg"), ("a new one", "neg")),
        test=labelled(("good film", "neg"), ("a new one", "pos")),
    )
    found = leaks.between(task)
    assert (found["train"]["repeated"], found["train"]["conflicting"]) == (1, 0)
    valid, test = found["valid"], found["test"]
    assert (valid["equal"], valid["copies"], valid["other_label"], valid["near"]) == (1, 2, 0, 0)
    assert valid["share"] == pytest.approx(2 / 3)
    assert valid["words"] == "2 of 3 valid rows in the training rows"
    assert test["words"] == "1 of 2 test rows in the training rows, 1 with another label"
    assert test["in_valid"] == 2
    assert valid["examples"] == [
        {"row": 0, "text": "good film", "training_row": 0, "training_text": "good film"},
        {"row": 1, "text": "Bad  Film", "training_row": 1, "training_text": "bad film"},
    ]


def test_labels_that_contradict_each_other_are_counted() -> None:
    rows = labelled(("fine", "pos"), ("fine", "neg"), ("fine", "pos"), ("dull", "neg"))
    found = leaks.between(prepared(train=rows, valid=labelled(("new", "pos"))))["train"]
    assert found["conflicting"] == 3
    assert found["words"] == (
        "2 of 4 training rows repeat another, 3 have the texts of a row with another label"
    )
    assert found["examples"] == [{"rows": [0, 1, 2], "text": "fine", "labels": ['"neg"', '"pos"']}]


def test_the_two_texts_of_a_pair_may_be_swapped() -> None:
    train, valid = [Row(("one", "two"), "yes", 1)], [Row(("two", "one"), "yes", 1)]
    found = leaks.between(prepared(train=train, valid=valid))["valid"]
    assert (found["equal"], found["copies"]) == (0, 1)


def test_entities_of_a_sentence_are_its_label() -> None:
    from finetune.ner.tagged_text import from_words
    from finetune.ner.tags import Span

    words = ["ada", "met", "bob"]
    one = from_words(words, [Span(0, 1, "PER")], 1)
    other = from_words(words, [Span(0, 1, "PER"), Span(2, 3, "PER")], 1)
    found = leaks.between(prepared(ner, train=[one], valid=[one, other]))["valid"]
    assert (found["equal"], found["other_label"]) == (2, 1)


def changed(words: str, places: Sequence[int]) -> str:
    parts = words.split()
    for place in places:
        parts[place] = "changed"
    return " ".join(parts)


def test_near_copies() -> None:
    words = " ".join(f"word{i}" for i in range(40))
    rows = {
        # A word at the end takes 1 of 38 shingles (37 / 39), one inside takes 3 (35 / 41).
        "end": changed(words, [39]),
        "punctuated": words.replace(" ", ", ").upper(),
        "inside": changed(words, [20]),
        "too_far": changed(words, [5, 15, 25, 35]),  # 26 / 50
        "too_short": "word0 word1 word2 word3 word4 word5 word6",
    }
    train = [("other words",), (words,), ("word0 word1 word2 word3 word4 word5 new",)]
    found = leaks.near_copies(train, [(text,) for text in rows.values()])
    assert {list(rows)[i]: j for i, j in found.items()} == {"end": 1, "punctuated": 1, "inside": 1}
    assert leaks.similarity(words.split(), rows["inside"].split()) == 35 / 41
    assert leaks.near_copies([], [(words,)]) == {}


def test_near_copies_are_found_whatever_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(3)
    train = [(" ".join(rng.choices(WORDS, k=30)),) for _ in range(50)]
    rows = [(changed(text, [0]),) for (text,) in train[::5]]
    wanted = {i: 5 * i for i in range(len(rows))}
    assert leaks.near_copies(train, rows) == wanted
    monkeypatch.setattr(leaks, "BATCH_ROWS", 7)
    assert leaks.near_copies(train, rows) == wanted


def test_loud_about_a_valid_file_that_is_train(caplog: pytest.LogCaptureFixture) -> None:
    rows = labelled(("one", "pos"), ("two", "neg"))
    with caplog.at_level(logging.WARNING, "textmill"):
        leaks.warn("reviews", leaks.between(prepared(train=rows, valid=rows)))
    assert "reviews: valid IS THE TRAINING DATA: 2 of 2 valid rows" in caplog.text
    caplog.clear()
    other = labelled(("three", "pos"))
    with caplog.at_level(logging.WARNING, "textmill"):
        leaks.warn("reviews", leaks.between(prepared(train=rows, valid=other)))
        assert caplog.text == ""
        leaks.warn("reviews", leaks.between(prepared(train=rows, valid=[*other, *rows])))
        leaks.warn("reviews", leaks.between(prepared(train=[*rows, rows[0]], valid=other)))
        assert "take these rows out of one of the files" in caplog.text
        assert "another label" not in caplog.text


RECIPE = """
name = "shards"
output = "run"
[sources.web]
reader = "jsonl"
path = "web.jsonl"
[tokenizer]
path = "encoder"
[packing]
sequence_length = 32
valid_share = 0.05
"""


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shards in run/data, made by the data stage from documents one of which holds LONG, and the
    encoder that was trained on them."""
    folder = tmp_path_factory.mktemp("pretrained")
    write_encoder(folder / "encoder")
    rng = random.Random(1)
    texts = [" ".join(rng.choices(WORDS[:20], k=25)) for _ in range(60)]
    texts += [f"today the film was bad . {LONG} . ada was good"]
    lines = [json.dumps({"id": str(i), "text": text}) for i, text in enumerate(texts)]
    (folder / "web.jsonl").write_text("".join(line + "\n" for line in lines))
    (folder / "recipe.toml").write_text(RECIPE)
    command = [sys.executable, "-m", "data_prep", "recipe.toml", "launch.workers=1"]
    done = subprocess.run(
        command, cwd=folder, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    facts = folder / "encoder" / "textmill.json"
    corpus = Corpus(folder / "run" / "data").fingerprint
    provenance.write_json(facts, provenance.read_json(facts) | {"data": corpus})
    return folder


def searched(folder: Path, *rows: str | tuple[str, ...], encoder: str = "encoder") -> Any:
    """A task whose test rows these are, started from the encoder of the folder."""
    tokenizer = folder / encoder / "tokenizer.json"
    task = prepared(
        tokenizer=Tokenizer(Backend.from_file(str(tokenizer)), 0, 2, 3),
        fingerprint=provenance.file_fingerprint(tokenizer),
        train=labelled(("x", "pos")),
        valid=labelled((ELSEWHERE, "pos")),
        test=[Row((row,) if isinstance(row, str) else row, "pos", 1) for row in rows],
    )
    task.encoder.folder = folder / encoder
    return task


def test_rows_are_found_in_the_shards(pretrained: Path) -> None:
    half = "a lovely play and an awful play in lima " + LONG  # 13 tokens in a row are enough
    task = searched(pretrained, LONG, LONG.upper(), half, ELSEWHERE, "met dan", (ELSEWHERE, LONG))
    found = leaks.in_pretraining(task, pretrained / "run" / "data")
    corpus = Corpus(pretrained / "run" / "data")
    assert found["tokens"] == corpus.reader("web", "train").num_tokens
    assert (found["skipped"], found["share"], found["ngram"]) == (None, 1.0, 13)
    test = found["splits"]["test"]
    assert (test["rows"], test["found"], test["whole"], test["too_short"]) == (6, 4, 2, 1)
    assert [(each["row"], each["share"]) for each in test["examples"]][:2] == [(0, 1.0), (1, 1.0)]
    assert found["splits"]["valid"]["found"] == 0
    assert test["words"].startswith("4 of 6 test rows share 13 tokens in a row with the pretrain")


def test_a_short_row_is_found_only_as_a_whole(pretrained: Path) -> None:
    short = "carla met dan in new york and ada"  # 8 tokens
    task = searched(pretrained, short, short.replace("dan", "bob"), short.rpartition(" ")[0])
    test = leaks.in_pretraining(task, pretrained / "run" / "data")["splits"]["test"]
    assert (test["found"], test["too_short"]) == (1, 1)


def test_every_sample_is_searched_as_a_plain_search_would(pretrained: Path) -> None:
    """Beside a search of every row's tokens in every sample."""
    corpus = Corpus(pretrained / "run" / "data")
    reader = corpus.reader("web", "train")
    samples = [tuple(sample) for sample in reader.tokens(np.arange(reader.num_samples)).tolist()]
    rng = random.Random(5)
    rows = [" ".join(rng.choices(WORDS[:20], k=20)) for _ in range(20)]
    backend = Backend.from_file(str(pretrained / "encoder" / "tokenizer.json"))
    for sample in samples[::3]:
        begin = rng.randrange(1, 12)
        rows.append(backend.decode(sample[begin : begin + rng.randrange(8, 18)]))
    task = searched(pretrained, *rows)
    expected = set()
    for number, row in enumerate(rows):
        ids = tuple(backend.encode(row, add_special_tokens=False).ids)
        size = min(len(ids), shard_search.NGRAM)
        grams = {ids[i : i + size] for i in range(len(ids) - size + 1)} if size >= 8 else set()
        if any(sample[i : i + size] in grams for sample in samples for i in range(32 - size + 1)):
            expected.add(number)
    texts = {"test": [task.plugin.texts(row) for row in task.data["test"].rows]}
    found = shard_search.search(
        corpus.folder, corpus.tokenizer.fingerprint, task.encoder.tokenizer, texts
    )
    assert isinstance(found, shard_search.Searched)
    assert len(expected) > 5
    assert set(found.splits["test"].rows) == expected


def test_of_a_large_corpus_a_part_is_searched(
    pretrained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shard_search, "CHUNK_TOKENS", 64)  # two samples
    task = searched(pretrained, LONG)
    whole = leaks.in_pretraining(task, pretrained / "run" / "data")
    assert whole["splits"]["test"]["found"] == 1
    monkeypatch.setattr(shard_search, "MOST_TOKENS", whole["tokens"] // 4)
    part = leaks.in_pretraining(task, pretrained / "run" / "data")
    assert 0.1 < part["share"] < 0.35
    assert f"{part['share']:.1%} of the corpus" in part["words"]


def test_what_was_found_stands_beside_the_scores(
    pretrained: Path, caplog: pytest.LogCaptureFixture
) -> None:
    recipe: Any = SimpleNamespace(output=pretrained / "run")
    with caplog.at_level(logging.WARNING, "textmill"):
        found = leaks.of(recipe, searched(pretrained, LONG, ELSEWHERE))
    assert found["test"]["words"] == (
        "0 of 2 test rows in the training rows; 1 of 2 test rows share 13 tokens in a row with the "
        "pretraining shards, 1 nearly all of theirs"
    )
    assert found["pretraining"]["skipped"] is None
    assert "decontaminate.sets" in caplog.text


def test_why_shards_are_not_searched(pretrained: Path, tmp_path: Path) -> None:
    task = searched(pretrained, LONG)
    recipe: Any = SimpleNamespace(output=tmp_path)
    found = leaks.of(recipe, task)
    assert found["pretraining"]["skipped"] == f"there are no shards in {tmp_path / 'data'}"
    assert "pretraining" not in found["test"]
    shutil.copytree(pretrained / "encoder", pretrained / "other", dirs_exist_ok=True)
    provenance.write_json(pretrained / "other" / "textmill.json", {})
    recipe = SimpleNamespace(output=pretrained / "run")
    elsewhere = leaks.of(recipe, searched(pretrained, LONG, encoder="other"))["pretraining"]
    assert elsewhere["words"] == (
        "the scored rows were not looked for in pretraining shards: the encoder was not trained on "
        f"the shards in {pretrained / 'run' / 'data'}"
    )
    task.encoder.tokenizer_fingerprint = "xxh3:0"
    other = leaks.in_pretraining(task, pretrained / "run" / "data")
    assert "were written with another tokenizer" in other["skipped"]


def test_damaged_shards_are_no_reason_to_stop(pretrained: Path, tmp_path: Path) -> None:
    shutil.copytree(pretrained / "run" / "data", tmp_path / "data")
    tokens = next((tmp_path / "data" / "sources" / "web").glob("train-*.tokens.npy"))
    content = bytearray(tokens.read_bytes())
    content[-1] ^= 1
    tokens.write_bytes(bytes(content))
    found = leaks.in_pretraining(searched(pretrained, LONG), tmp_path / "data")
    assert "is damaged" in found["skipped"]
