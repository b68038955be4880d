"""Damaged checkpoints and shards: every fault is found before anything is made of it, and named.

The faults are put one by one into every file of a real checkpoint of two ranks and of a real
corpus, and looked for by the functions that loading and reading call; whole runs show that they do
call them, and that what they end with is as if nothing had happened.
"""

import logging
import re
import shutil
from argparse import Namespace
from collections import Counter
from pathlib import Path

import pytest

from data_prep.commands import verify
from data_prep.shards import Corpus
from runtime import provenance, retention, seals
from runtime.errors import DataError
from tests.faults.damage import Damage, damage, files_below
from tests.pretrain.conftest import prepared, workplace
from tests.pretrain.runs import assert_same, finished, stage, start

__all__ = ["prepared", "workplace"]  # fixtures
CHECKPOINT_FAULTS = 1200
SHARD_FAULTS = 1200
log = logging.getLogger(__name__)


@pytest.fixture(scope="module")
def straight(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The uninterrupted run of 2 ranks: 12 steps, checkpoints at 4, 8 and 12."""
    folder = tmp_path_factory.mktemp("straight") / "workplace"
    shutil.copytree(prepared, folder)
    finished(folder)
    return folder


def unfinished_copy(straight: Path, tmp_path: Path) -> Path:
    """The straight run with its checkpoints, before export and manifest were written."""
    folder = tmp_path / "workplace"
    shutil.copytree(straight, folder)
    (stage(folder) / "manifest.json").unlink()
    shutil.rmtree(stage(folder) / "export")
    return folder


def counted(found: list[Damage], expected: int) -> None:
    """Say how many faults of each kind there were; fail if there were fewer than told."""
    kinds = Counter(damage.kind for damage in found)
    log.info("%d faults: %s", len(found), dict(sorted(kinds.items())))
    assert len(found) >= expected, kinds
    assert min(kinds.values()) >= expected // 100, kinds


def test_every_fault_in_a_checkpoint_is_found_and_named(straight: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(stage(straight) / "checkpoints", tmp_path / "checkpoints")
    newest, before = (retention.path_of(folder, step) for step in (12, 8))
    files = files_below(newest)
    names = {path.name for path in files}
    assert {"MANIFEST.json", "rng-00000.pt", "rng-00001.pt"} < names
    assert sum("optim_states" in name for name in names) == 2  # of both ranks
    assert seals.first_fault(newest) is None
    done: list[Damage] = []
    seed = 0
    while len(done) < CHECKPOINT_FAULTS:
        seed += 1
        fault = damage(files, lambda path: before / path.relative_to(newest), seed)
        if fault is None:
            continue
        told = seals.first_fault(newest)
        assert told is not None, f"seed {seed}: {fault.kind} in {fault.path.name} was not found"
        assert fault.path.name in told, f"seed {seed}: {fault.kind} in {fault.path.name}: {told}"
        fault.undo()
        done.append(fault)
    assert seals.first_fault(newest) is None
    counted(done, CHECKPOINT_FAULTS)


def test_every_fault_in_a_corpus_is_found_and_named(prepared: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(prepared / "run/data", tmp_path / "data")
    files = [
        folder / "manifest.json",
        *files_below(folder / "tokenizer"),
        *files_below(folder / "sources"),
    ]

    def twin(path: Path) -> Path | None:
        """The same file of the other source."""
        names = {"plants": "ships", "ships": "plants"}
        name = names.get(path.parent.name)
        return None if name is None else path.parent.parent / name / path.name

    Corpus(folder).verify()
    done: list[Damage] = []
    seed = 0
    while len(done) < SHARD_FAULTS:
        seed += 1
        fault = damage(files, twin, seed)
        if fault is None:
            continue
        with pytest.raises(DataError) as told:
            Corpus(folder).verify()
        assert fault.path.name in str(told.value), f"seed {seed}: {fault.kind}: {told.value}"
        assert re.search(r"`python -m data_prep|run the stage again", str(told.value)), told.value
        if seed % 10 == 0:  # what a person would call
            told_by_command = verify_fault(folder)
            assert fault.path.name in told_by_command, f"seed {seed}: {told_by_command}"
        fault.undo()
        done.append(fault)
    Corpus(folder).verify()
    counted(done, SHARD_FAULTS)


def verify_fault(folder: Path) -> str:
    """What `python -m data_prep verify` would print."""
    with pytest.raises(DataError) as told:
        verify.run(Namespace(corpus=folder, overrides=[]))
    return str(told.value)


def test_foreign_files_and_folders_are_found(straight: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(stage(straight) / "checkpoints", tmp_path / "checkpoints")
    newest, before = (retention.path_of(folder, step) for step in (12, 8))
    shard = next(newest.glob("*optim_states.pt"))
    stray = newest / shard.name.replace("rank_0", "rank_7")
    stray.write_bytes(shard.read_bytes())
    assert seals.first_fault(newest) == f"{stray.name} does not belong to it"
    stray.unlink()
    (newest / "note.txt").write_text("a person's own file")
    assert seals.first_fault(newest) is None
    shutil.rmtree(newest)
    before.rename(newest)  # a whole checkpoint under the name of another step
    assert seals.first_fault(newest) == "MANIFEST.json is of step 8"


def test_names_in_a_manifest_cannot_lead_out_of_the_checkpoint(
    straight: Path, tmp_path: Path
) -> None:
    newest = shutil.copytree(
        stage(straight) / "checkpoints/step-00000012", tmp_path / "step-00000012"
    )
    manifest = provenance.read_json(newest / seals.MANIFEST)
    for name in ("../secret", "/etc/passwd"):
        files = {**manifest["files"], name: {"bytes": 1, "hash": "x"}}
        seals.write_manifest(newest, manifest | {"files": files})
        assert seals.first_fault(newest) == f"MANIFEST.json lists {name}"


@pytest.mark.distributed
def test_runs_go_on_from_the_newest_checkpoint_that_is_sound(
    straight: Path, tmp_path: Path
) -> None:
    """The last has another one's random state, which would load without an error; in the one before
    a single digit says that the run is further than it is."""
    folder = unfinished_copy(straight, tmp_path)
    oldest, middle, newest = (stage(folder) / f"checkpoints/step-{step:08d}" for step in (4, 8, 12))
    shutil.copyfile(oldest / "rng-00001.pt", newest / "rng-00001.pt")
    manifest = middle / "MANIFEST.json"
    content = manifest.read_bytes()
    manifest.write_bytes(content.replace(b'"tokens": 8', b'"tokens": 9', 1))
    assert manifest.read_bytes() != content
    resumed = finished(folder)
    assert "step-00000012 is damaged and not used: the content of rng-00001.pt" in resumed.text
    assert "step-00000008 is damaged and not used: MANIFEST.json was changed" in resumed.text
    assert_same(folder, straight)


@pytest.mark.distributed
def test_no_sound_checkpoint_and_damaged_shards_end_every_rank_with_code_3(
    straight: Path, tmp_path: Path
) -> None:
    folder = unfinished_copy(straight, tmp_path)
    for step in (4, 8, 12):
        path = next((stage(folder) / f"checkpoints/step-{step:08d}").glob("*optim_states.pt"))
        path.write_bytes(path.read_bytes()[:-1])
    ended = start(folder)
    assert ended.exit_codes == [3, 3], ended.text
    assert "all 3 checkpoints in" in ended.text
    assert ended.text.count("is damaged and not used") == 3
    assert "Traceback" not in ended.text
    tokens = next((folder / "run/data/sources/plants").glob("train-*.tokens.npy"))
    content = bytearray(tokens.read_bytes())
    content[len(content) // 2] ^= 16
    tokens.write_bytes(content)
    ended = start(folder)
    assert ended.exit_codes == [3, 3], ended.text
    assert f"{tokens.name}: block 0 (bytes" in ended.text
    assert "`python -m data_prep repair" in ended.text
    assert "Traceback" not in ended.text
