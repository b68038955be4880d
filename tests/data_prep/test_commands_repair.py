"""`verify` names what is damaged, and the command it prints repairs just that."""

import os
import shlex
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from data_prep import reading
from data_prep.__main__ import main
from data_prep.commands import repair
from data_prep.shards import Corpus
from runtime import provenance
from tests.data_prep.conftest import content, write_corpus_recipe

Captured = pytest.CaptureFixture[str]
STEM = "sources/first/train-00001"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The inputs of a corpus, and the corpus as it was built from them."""
    place = tmp_path_factory.mktemp("repair")
    assert main([str(write_corpus_recipe(place)), "launch.workers=1"]) == 0
    return place


@pytest.fixture
def folder(project: Path, tmp_path: Path) -> Path:
    """A copy of the corpus to be damaged."""
    return shutil.copytree(project / "out" / "data", tmp_path / "data")


@contextmanager
def changed(path: Path, content: bytes) -> Iterator[None]:
    """An input file with other content of the same time, until the block ends."""
    original, stat = path.read_bytes(), path.stat()
    try:
        path.write_bytes(content)
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
        yield
    finally:
        path.write_bytes(original)
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def flip(path: Path, place: int) -> None:
    damaged = bytearray(path.read_bytes())
    damaged[place] ^= 1
    path.write_bytes(damaged)


def repair_command(error: str) -> list[str]:
    """The arguments of the command that `verify` printed at its end."""
    words = shlex.split(error.splitlines()[-1])
    assert words[:3] == ["python", "-m", "data_prep"]
    return words[3:]


def test_a_flipped_bit(folder: Path, capsys: Captured) -> None:
    path = folder / f"{STEM}.tokens.npy"
    before, size = content(folder), path.stat().st_size
    flip(path, size - 5)
    capsys.readouterr()
    assert main(["verify", str(folder)]) == 3
    error = capsys.readouterr().err
    assert f"{path}: block 0 (bytes 0 to {size}) is damaged" in error
    assert repair_command(error) == ["repair", str(folder), "first/train-00001"]
    assert main(repair_command(error)) == 0
    assert content(folder) == before
    assert main(["verify", str(folder)]) == 0
    assert not (folder.parent / "data.repair").exists()


MORE = """
[dedup]
lines = true
near = true
near_threshold = 0.5
[[augment.steps]]
step = "sentence_shuffle"
[clean]
steps = [{step = "unicode"}]
"""


@pytest.mark.slow
@pytest.mark.parametrize(("more", "has_tokenizer"), [(MORE, False), ("", True)])
def test_all_shards_by_every_way_of_building(
    tmp_path: Path, more: str, has_tokenizer: bool, capsys: Captured
) -> None:
    """One pass or two, with copies and lines cut out and documents added."""
    recipe = write_corpus_recipe(tmp_path)
    text = recipe.read_text() + more
    if has_tokenizer:
        assert main(["train-tokenizer", str(recipe), f'output="{tmp_path}/first"']) == 0
        place = capsys.readouterr().out.splitlines()[-1].removeprefix("tokenizer: ")
        text = text.replace("vocab_size = 512", f'path = "{place}"')
    recipe.write_text(text)
    assert main([str(recipe), "launch.workers=1"]) == 0
    folder = tmp_path / "out" / "data"
    before = content(folder)
    for path in folder.glob("sources/*/*.npy"):
        path.unlink()
    capsys.readouterr()
    assert main(["verify", str(folder)]) == 3
    assert main(repair_command(capsys.readouterr().err)) == 0
    assert content(folder) == before


def test_every_kind_of_damage_is_listed_at_once(folder: Path, capsys: Captured) -> None:
    before = content(folder)
    os.truncate(folder / f"{STEM}.tokens.npy", 200)
    (folder / f"{STEM}.lengths.npy").unlink()
    with (folder / "sources/second/valid-00000.documents.npy").open("ab") as file:
        file.write(b"more")
    capsys.readouterr()
    assert main(["verify", str(folder)]) == 3
    error = capsys.readouterr().err
    assert "2 shards of" in error
    assert "is cut off: the file has 200 bytes" in error
    assert f"{STEM}.lengths.npy: all 1 blocks" in error
    assert "No such file" in error
    assert "has 4 bytes more than the manifest says" in error
    assert main(repair_command(error)) == 0
    assert content(folder) == before


def test_only_what_the_shard_came_from_is_read(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shard = Corpus(folder).manifest["sources"]["second"]["splits"]["train"]["shards"][1]
    flip(folder / "sources/second" / f"{shard['name']}.tokens.npy", 300)
    seen = []
    read_unit = reading.read_unit

    def watched(job: reading.ReadJob) -> object:
        seen.append(job.unit.name)
        return read_unit(job)

    monkeypatch.setattr(reading, "read_unit", watched)
    monkeypatch.setattr(repair.executor, "num_workers", lambda launch: 1)
    assert main(["repair", str(folder), f"second/{shard['name']}"]) == 0
    assert seen == [f"second/{number:06d}" for number, _, _ in shard["units"]]
    all_units = list((folder / "decisions" / "second").glob("??????.npy"))
    assert 0 < len(seen) < len(all_units)


def test_an_interrupted_repair_of_others_leaves_nothing_behind(folder: Path) -> None:
    before = content(folder)
    stale = folder.parent / "data.repair" / "keep"
    stale.mkdir(parents=True)
    flip(folder / f"{STEM}.tokens.npy", 300)
    assert main(["repair", str(folder), "first/train-00001"]) == 0
    assert content(folder) == before


def test_changed_inputs_are_refused(project: Path, folder: Path, capsys: Captured) -> None:
    source = project / "second.jsonl"
    flip(folder / f"{STEM}.tokens.npy", 300)
    damaged = content(folder)
    with changed(source, source.read_bytes() + b'{"id": "new", "text": "more"}\n'):
        assert main(["repair", str(folder), "first/train-00001"]) == 3
        assert "are not what they were" in capsys.readouterr().err
    with changed(source, b""):
        source.unlink()
        assert main(["repair", str(folder), "first/train-00001"]) == 3
        assert "no file at" in capsys.readouterr().err
        source.touch()
    assert content(folder) == damaged
    assert main(["repair", str(folder), "first/train-00001"]) == 0


def test_an_input_changed_in_secret_replaces_nothing(
    project: Path, folder: Path, capsys: Captured
) -> None:
    source = project / "first.jsonl"
    before = content(folder)
    with changed(source, source.read_bytes().replace(b"river", b"liver")):
        assert main(["repair", str(folder), "first/train-00001"]) == 3
    assert "came out otherwise" in capsys.readouterr().err
    assert content(folder) == before


def test_names_that_are_no_shard(folder: Path, capsys: Captured) -> None:
    assert main(["repair", str(folder), "first/train-99999", "../x"]) == 3
    error = capsys.readouterr().err
    assert "has no shard first/train-99999, ../x; shards are named like first/train-00000" in error


def test_a_changed_manifest(folder: Path, capsys: Captured) -> None:
    manifest = provenance.read_json(folder / "manifest.json")
    manifest["sequence_length"] = 32
    provenance.write_json(folder / "manifest.json", manifest)
    assert main(["verify", str(folder)]) == 3
    assert "was changed after it was written" in capsys.readouterr().err
