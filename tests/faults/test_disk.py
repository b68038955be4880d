"""Disks of every size up to what is needed, and disks that fill up while a run is on them.

Each is a tmpfs. A command that does not fit ends all its ranks with code 7 and one line that says
why, leaves nothing half written under a name that means it is whole, and, when the same disk has
become larger, comes to the end of an undisturbed run by the same command.
"""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from runtime import retention, seals
from tests.data_prep.conftest import command, content, write_corpus_recipe
from tests.faults.disks import Disk, mounted
from tests.finetune.conftest import RECIPE, write_encoder, write_workplace
from tests.pretrain.conftest import prepared
from tests.pretrain.runs import assert_same, finished, metrics_reach, stage, start
from tests.ranks import Finished, Rank, run_ranks

__all__ = ["prepared"]  # a fixture
AMPLE_KIB = 1 << 16
# KiB beside the shards. The run's forecast wants 3,460 before it begins.
PRETRAIN_KIB = (12, 1200)
FINETUNE_KIB = (0, 900)
DATA_PREP_KIB = (16, 500)
ALL_KIB = (0, 4, 8, 16, 32, 64, 128, 300, 700, 1500, 3000, 6000)


def told_once(ended: Finished, code: int = 7) -> None:
    """Every rank ended with the code and one line of its own about it."""
    assert ended.exit_codes == [code] * len(ended.exit_codes), ended.text
    for text in ended.outputs:
        assert len([line for line in text.splitlines() if line.startswith("textmill: ")]) == 1, text
    assert "Traceback" not in ended.text, ended.text


def nothing_half_written(folder: Path) -> None:
    """No checkpoint that is not sound, no export or manifest of a run that did not end."""
    for checkpoints in folder.rglob("checkpoints"):
        for step in retention.steps(checkpoints):
            assert seals.first_fault(retention.path_of(checkpoints, step)) is None
    assert not list(folder.rglob("export"))
    assert not list(folder.glob("*/manifest.json"))


@contextmanager
def run_on_a_disk(prepared: Path, place: Path, kib: int) -> Iterator[tuple[Path, Disk]]:
    """A workplace whose output, finished shards in it, has so many KiB left."""
    shutil.copytree(prepared, place, ignore=shutil.ignore_patterns("run"))
    with mounted(place / "run", AMPLE_KIB) as disk:
        shutil.copytree(prepared / "run", disk.folder, dirs_exist_ok=True)
        disk.leave(kib)
        yield place, disk


@pytest.fixture(scope="module")
def straight(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The undisturbed run of 2 ranks: 12 steps, checkpoints at 4, 8 and 12."""
    folder = tmp_path_factory.mktemp("straight") / "workplace"
    shutil.copytree(prepared, folder)
    finished(folder)
    return folder


@pytest.mark.distributed
@pytest.mark.parametrize(
    "kib", [*PRETRAIN_KIB, *(pytest.param(kib, marks=pytest.mark.soak) for kib in ALL_KIB)]
)
def test_pretraining_on_a_small_disk(
    kib: int, prepared: Path, straight: Path, tmp_path: Path
) -> None:
    with run_on_a_disk(prepared, tmp_path / "workplace", kib) as (folder, disk):
        ended = start(folder)
        if ended.exit_codes != [0, 0]:
            told_once(ended)
            nothing_half_written(stage(folder))
            disk.resize(AMPLE_KIB)
            finished(folder)
        assert_same(folder, straight)


@pytest.mark.distributed
def test_a_disk_that_fills_up_between_two_saves(prepared: Path, tmp_path: Path) -> None:
    """Not one byte is left after step 3, and nothing is due but logs: a line that does not fit on
    one rank ends both."""
    how = ("train.total_tokens=20480", "checkpoint.interval_steps=1000")  # 20 steps
    whole = tmp_path / "whole"
    shutil.copytree(prepared, whole)
    finished(whole, 2, *how)
    with run_on_a_disk(prepared, tmp_path / "workplace", AMPLE_KIB) as (folder, disk):

        def fill(ranks: Sequence[Rank]) -> None:
            metrics_reach(folder, 3)
            disk.fill()

        ended = start(folder, 2, *how, when_running=fill)
        told_once(ended)
        assert "the logs of this run cannot be written" in ended.text
        nothing_half_written(stage(folder))
        (disk.folder / "filler").unlink()
        finished(folder, 2, *how)
        assert_same(folder, whole)


@pytest.mark.distributed
def test_a_disk_that_fills_up_before_a_save(prepared: Path, straight: Path, tmp_path: Path) -> None:
    with run_on_a_disk(prepared, tmp_path / "workplace", AMPLE_KIB) as (folder, disk):

        def fill(ranks: Sequence[Rank]) -> None:
            metrics_reach(folder, 5)
            disk.fill()

        ended = start(folder, when_running=fill)
        told_once(ended)
        assert "the last checkpoint, of step 4, is intact" in ended.text
        nothing_half_written(stage(folder))
        (disk.folder / "filler").unlink()
        finished(folder)
        assert_same(folder, straight)


TRAIN_REVIEWS = ["-m", "finetune", "train", "recipe.toml"]


def reviews(folder: Path, encoder: Path) -> Path:
    """A workplace with one task, in which a checkpoint is written at each of 4 epochs."""
    folder.mkdir()
    write_workplace(folder, encoder)
    head, _, rest = RECIPE.partition("[tasks.people]")
    task = rest[rest.index("[tasks.reviews]") : rest.index("[export]")]
    (folder / "recipe.toml").write_text(head + task.replace("epochs = 8", "epochs = 4"))
    return folder


def results(folder: Path) -> dict[str, bytes]:
    """The ledgers and the exported weights of a finished task."""
    task = folder / "run/finetune/reviews"
    found = [*task.rglob("rank-*.jsonl"), task / "export/model.safetensors"]
    return {str(path.relative_to(task)): path.read_bytes() for path in found}


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The undisturbed fine-tuning of one task on 2 ranks."""
    place = tmp_path_factory.mktemp("tuned")
    folder = reviews(place / "workplace", write_encoder(place / "encoder"))
    done = run_ranks(TRAIN_REVIEWS, 2, folder)
    assert done.exit_codes == [0, 0], done.text
    return folder


@pytest.mark.distributed
@pytest.mark.parametrize(
    "kib", [*FINETUNE_KIB, *(pytest.param(kib, marks=pytest.mark.soak) for kib in ALL_KIB)]
)
def test_fine_tuning_on_a_small_disk(kib: int, tuned: Path, tmp_path: Path) -> None:
    folder = reviews(tmp_path / "workplace", tuned.parent / "encoder")
    with mounted(folder / "run", AMPLE_KIB) as disk:
        disk.leave(kib)
        ended = run_ranks(TRAIN_REVIEWS, 2, folder)
        if ended.exit_codes != [0, 0]:
            told_once(ended)
            assert not list((folder / "run/finetune").glob("*/manifest.json"))
            disk.resize(AMPLE_KIB)
            ended = run_ranks(TRAIN_REVIEWS, 2, folder)
            assert ended.exit_codes == [0, 0], ended.text
        assert results(folder) == results(tuned)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a recipe and the corpus that is built from it with room enough."""
    place = tmp_path_factory.mktemp("built")
    recipe = write_corpus_recipe(place)
    done = command(recipe, "launch.workers=2", f'output="{place}/whole"')
    assert done.returncode == 0, done.stderr
    return place


@pytest.mark.parametrize(
    "kib", [*DATA_PREP_KIB, *(pytest.param(kib, marks=pytest.mark.soak) for kib in ALL_KIB[1:])]
)
def test_data_preparation_on_a_small_disk(kib: int, built: Path, tmp_path: Path) -> None:
    arguments = (built / "recipe.toml", "launch.workers=2", f'output="{tmp_path}/disk/out"')
    with mounted(tmp_path / "disk", kib) as disk:
        ended = command(*arguments)
        if ended.returncode != 0:
            assert ended.returncode == 7, ended.stderr
            told = [line for line in ended.stderr.splitlines() if line.startswith("textmill: ")]
            assert len(told) == 1, ended.stderr
            assert "Traceback" not in ended.stderr
            assert not (tmp_path / "disk/out/data/manifest.json").exists()
            disk.resize(AMPLE_KIB)
            ended = command(*arguments)
            assert ended.returncode == 0, ended.stderr
        assert content(tmp_path / "disk/out/data") == content(built / "whole/data")
        assert not list((tmp_path / "disk").rglob(".*.tmp"))
