"""A whole corpus: what comes in comes out or is counted, whoever does the work, however often it
is killed."""

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from data_prep import build as building
from data_prep.build import build
from data_prep.config import Recipe
from data_prep.encoding import document_hash
from data_prep.plan import plan
from data_prep.shards import Corpus
from data_prep.tokenizer import load_json
from runtime import recipe as recipes
from tests.data_prep.conftest import command, content, start, texts, write_corpus_recipe


def run(path: Path, *overrides: str) -> tuple[Path, dict[str, Any]]:
    recipe = recipes.load(path, overrides, Recipe)
    planned = plan(recipe)
    return planned.folder, build(recipe, planned)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The corpus of `corpus_recipe`, built by one worker."""
    folder = tmp_path_factory.mktemp("built")
    recipe = write_corpus_recipe(folder)
    run(recipe, "launch.workers=1")
    return folder


def test_documents_are_conserved(built: Path) -> None:
    manifest = json.loads((built / "out" / "data" / "manifest.json").read_text())
    first, second = (manifest["sources"][name] for name in ("first", "second"))
    assert first["documents"] == {
        "read": 307, "augmented": 0, "kept": 300, "dropped": {"duplicate": 7}, "quarantined": {}
    }  # fmt: skip
    assert second["documents"]["dropped"] == {"duplicate": 5}
    assert manifest["duplicates"]["exact"] == {
        "first": {"first": 7, "second": 0}, "second": {"first": 5, "second": 0}
    }  # fmt: skip
    for source in (first, second):
        splits = source["splits"].values()
        assert sum(split["num_documents"] for split in splits) == source["documents"]["kept"]
        for split in splits:
            assert split["num_samples"] * 64 == split["num_tokens"] + split["padding_tokens"]
    assert len(first["splits"]["train"]["shards"]) > 1


def test_every_document_can_be_read_back(built: Path) -> None:
    corpus = Corpus(built / "out" / "data")
    corpus.verify()
    tokenizer = load_json(corpus.tokenizer.folder / "tokenizer.json")
    expected = {document_hash("first", f"d{i}"): text for i, text in enumerate(texts(300, seed=1))}
    found: dict[int, list[list[int]]] = {}
    for split in ("train", "valid"):
        reader = corpus.reader("first", split)
        rows = reader.gather(np.arange(reader.num_samples))
        segment = 0
        for tokens, count in zip(rows.tokens, rows.counts, strict=True):
            at = 0
            for _ in range(count):
                length = int(rows.lengths[segment])
                ids = tokens[at : at + length].tolist()
                assert (ids[0], ids[-1]) == (corpus.tokenizer.cls_id, corpus.tokenizer.sep_id)
                found.setdefault(int(rows.documents[segment]), []).append(ids[1:-1])
                at, segment = at + length, segment + 1
            assert (tokens[at:] == corpus.tokenizer.pad_id).all()
    assert set(found) == set(expected)
    for document, segments in found.items():
        if len(segments) == 1:  # pieces of longer ones may stand in any order
            text = tokenizer.decode(segments[0])
            assert text.split() == expected[document].split()


def test_train_and_valid_share_no_document(built: Path) -> None:
    corpus = Corpus(built / "out" / "data")
    for source in corpus.sources:
        seen = []
        for split in ("train", "valid"):
            reader = corpus.reader(source, split)  # type: ignore[arg-type]
            seen.append(set(reader.gather(np.arange(reader.num_samples)).documents.tolist()))
        assert seen[0]
        assert seen[1]
        assert not seen[0] & seen[1]


@pytest.mark.slow
@pytest.mark.parametrize("workers", [2, 3])
def test_the_same_bytes_for_any_number_of_workers(
    built: Path, tmp_path: Path, workers: int
) -> None:
    recipe = built / "recipe.toml"
    folder, _ = run(recipe, f"launch.workers={workers}", f'output="{tmp_path}/out"')
    assert content(folder) == content(built / "out" / "data")


@pytest.mark.slow
def test_the_same_bytes_after_kills(built: Path, tmp_path: Path) -> None:
    recipe = built / "recipe.toml"
    overrides = ("launch.workers=2", f'output="{tmp_path}/out"')
    work, folder = tmp_path / "out" / "data.work", tmp_path / "out" / "data"
    # Kill at the first sign of each pass, the main process and its workers alike.
    for sign in ("read/first/*.json", "keep/*/*", "corpus/tokenizer", "encode/*/*.json",
                 "shard/*/*.json"):  # fmt: skip
        process = start(recipe, *overrides)
        while process.poll() is None and not list(work.glob(sign)):
            time.sleep(0.005)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        assert not (folder / "manifest.json").exists() or sign.startswith("shard")
    result = command(recipe, *overrides)
    assert result.returncode == 0, result.stderr
    assert content(folder) == content(built / "out" / "data")
    assert not work.exists()


def test_half_written_files_of_killed_workers_do_not_stay(
    built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    overrides = ("launch.workers=1", f'output="{tmp_path}/out"')

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(building, "publish", stop)
        with pytest.raises(KeyboardInterrupt):
            run(built / "recipe.toml", *overrides)
    shards = tmp_path / "out" / "data.work" / "corpus" / "sources" / "first"
    (shards / ".train-00000.tokens.npy.1234.tmp").write_bytes(b"half")
    folder, _ = run(built / "recipe.toml", *overrides)
    assert content(folder) == content(built / "out" / "data")


@pytest.mark.slow
def test_workers_end_when_only_the_main_process_is_killed(built: Path, tmp_path: Path) -> None:
    work = tmp_path / "out" / "data.work"
    process = start(built / "recipe.toml", "launch.workers=2", f'output="{tmp_path}/out"')
    while process.poll() is None and not list(work.glob("read/*/*.json")):
        time.sleep(0.005)
    children = psutil.Process(process.pid).children(recursive=True)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    _, alive = psutil.wait_procs(children, timeout=10)
    assert not alive
    assert command(built / "recipe.toml", f'output="{tmp_path}/out"').returncode == 0
    assert content(tmp_path / "out" / "data") == content(built / "out" / "data")


def test_a_second_run_has_nothing_to_do(built: Path) -> None:
    before = (built / "out" / "data" / "run.json").stat().st_mtime_ns
    result = command(built / "recipe.toml")
    assert result.returncode == 0
    assert "up to date" in result.stdout
    assert (built / "out" / "data" / "run.json").stat().st_mtime_ns == before


def test_changed_inputs_replace_the_corpus(corpus_recipe: Path) -> None:
    folder, before = run(corpus_recipe, "launch.workers=1")
    folder, after = run(corpus_recipe, "launch.workers=1", "packing.sequence_length=32")
    assert before["inputs"] != after["inputs"]
    assert before["fingerprint"] != after["fingerprint"]
    assert Corpus(folder).sequence_length == 32


def test_an_unfinished_run_of_other_inputs_is_forgotten(
    corpus_recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(building, "trained_tokenizer", stop)
        with pytest.raises(KeyboardInterrupt):
            run(corpus_recipe, "launch.workers=1")
    folder, manifest = run(corpus_recipe, "launch.workers=1", "clean.steps=[]")
    assert manifest["config"]["clean"]["steps"] == []
    assert not folder.with_name("data.work").exists()


def test_duplicates_may_stay(corpus_recipe: Path) -> None:
    _, manifest = run(corpus_recipe, "launch.workers=1", "dedup.exact=false")
    assert manifest["sources"]["first"]["documents"]["kept"] == 307


def test_short_documents_are_counted(corpus_recipe: Path) -> None:
    _, manifest = run(corpus_recipe, "launch.workers=1", "packing.drop_shorter_than=60")
    dropped = manifest["sources"]["first"]["documents"]["dropped"]
    assert dropped["shorter than 60 tokens"] > 0
