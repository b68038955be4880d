"""Preemption: whichever stop signal comes to whomever, how often and when, all ranks stop at the
same step, save it and end with 75; the run that goes on from there is the uninterrupted one, bit by
bit.

Real ranks, held at the moments of tests/faults/pauses.py while the signals are sent. Every start of
a night goes on from the stop before it, so each stop also tests the resume from the last.
"""

import json
import shutil
from collections.abc import Callable, Sequence
from itertools import cycle
from pathlib import Path
from signal import SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2, Signals

import pytest

from tests.faults.oracle import Shape, same, uninterrupted
from tests.faults.preempted import (
    How,
    Stage,
    Stop,
    Target,
    assert_same,
    stopped,
    stopped_at_its_start,
)
from tests.pretrain.conftest import prepared as prepared
from tests.pretrain.conftest import workplace as workplace
from tests.ranks import run_ranks

pytestmark = pytest.mark.distributed
SIGNALS = (SIGTERM, SIGUSR1, SIGUSR2, SIGINT, SIGHUP)
# 12 steps; evaluations of step 6 and 12, checkpoints at 4, 8 and 12.
PRETRAIN = (
    Stop((("start", 0),), 0),
    Stop((("evaluation", 0),), 0),
    Stop((("step", 2),), 2, times=2),
    Stop((("step", 3), ("save", 3)), 3),
    Stop((("save", 4),), 4),
    Stop((("update", 5),), 6),  # too late for the 5th; the 6th is not evaluated
    Stop((("evaluation", 6), ("save", 6)), 6),
    Stop((("start", 0),), 6),
    Stop((("save", 8),), 8, times=2),
    Stop((("evaluation", 12),), 12, times=2),
    Stop((("save", 12),), 12),
)
# 6 steps; evaluations and checkpoints at 2, 4 and 6.
FINETUNE = (
    Stop((("start", 0),), 0),
    Stop((("evaluation", 0),), 0),
    Stop((("step", 1),), 1, times=2),
    Stop((("evaluation", 2),), 2),
    Stop((("step", 3), ("save", 3)), 3),
    Stop((("save", 4),), 4, times=2),
    Stop((("evaluation", 6), ("save", 6)), 6),
    Stop((("scoring", 0),), 6),
)
# Of these the stops that are tried with each signal to the launcher. A second SIGINT, more than a
# second after the first, means to end the run.
LAUNCHED = {
    SIGTERM: ((6, 8), (3,)),
    SIGUSR1: ((1, 3, 9), (6,)),
    SIGUSR2: ((2, 5, 10), (4,)),
    SIGHUP: ((0, 6, 7), (2, 7)),
    SIGINT: ((4, 8), (0, 1)),
}
EARLY = (0.05, 0.5, 1.0, 2.0)  # seconds after a start
LATER = (0.0, 0.3, 1.0, 3.0)  # after it says that it starts the ranks
TASK = """
[tasks.craft]
kind = "classification"
train = "craft.jsonl"
valid = "valid.jsonl"
epochs = 3
evaluations_per_epoch = 1
patience = 9
max_length = 16
batch_size = 16
micro_batch_size = 4
control_random_init = false
"""
ROWS = ("moss and fern in the shade", "plant"), ("the keel and the mast of", "ship")
NUM_ROWS = {"craft": 32, "valid": 400}  # of the latter two micro batches a rank


@pytest.fixture(scope="module")
def straight(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The uninterrupted pretraining."""
    return uninterrupted(Shape(), prepared, tmp_path_factory)


@pytest.fixture(scope="module")
def tuned(straight: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The uninterrupted fine-tuning of a task on its encoder; `untuned` beside it is the folder as
    it was before."""
    folder = tmp_path_factory.mktemp("tuned") / "workplace"
    shutil.copytree(straight, folder)
    with (folder / "recipe.toml").open("a") as file:
        file.write(TASK)
    for name, count in NUM_ROWS.items():
        rows = [
            json.dumps({"text": f"{name} {number} {text}", "label": label})
            for number, (text, label) in zip(range(count), cycle(ROWS), strict=False)
        ]
        (folder / f"{name}.jsonl").write_text("\n".join(rows) + "\n")
    shutil.copytree(folder, folder.with_name("untuned"))
    go_on(folder, "finetune")
    return folder


@pytest.fixture
def untuned(tuned: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "untuned"
    shutil.copytree(tuned.with_name("untuned"), folder)
    return folder


def go_on(folder: Path, stage: Stage) -> None:
    """To the end."""
    done = run_ranks(["-m", stage, "recipe.toml"], 2, folder)
    assert done.exit_codes == [0, 0], done.text


def a_night(folder: Path, stage: Stage, stops: Sequence[tuple[Stop, How]]) -> None:
    for stop, how in stops:
        stopped(folder, stage, stop, how)
    go_on(folder, stage)


def test_pretraining_loses_no_step(straight: Path, workplace: Path) -> None:
    """Each moment once, each signal, to one rank or to all."""
    hows = (
        *(How(SIGUSR1, "all"), How(SIGTERM, "one"), How(SIGUSR2, "one"), How(SIGTERM, "all")),
        *(How(SIGINT, "all"), How(SIGHUP, "one"), How(SIGUSR1, "one")),
    )
    moments = [PRETRAIN[i] for i in (1, 2, 3, 4, 5, 6, 9)]
    a_night(workplace, "pretrain", list(zip(moments, hows, strict=True)))
    assert_same(workplace, straight, "pretrain")
    same(workplace, straight)


def test_fine_tuning_loses_no_step(tuned: Path, untuned: Path) -> None:
    hows = How(SIGTERM, "all"), How(SIGHUP, "all"), How(SIGUSR1, "one"), How(SIGUSR2, "all")
    moments = [FINETUNE[i] for i in (3, 4, 6, 7)]
    a_night(untuned, "finetune", list(zip(moments, hows, strict=True)))
    assert_same(untuned, tuned, "finetune")


def test_a_scheduler_that_repeats_its_signal_to_the_launcher_destroys_nothing(
    straight: Path, workplace: Path
) -> None:
    told = stopped(workplace, "pretrain", PRETRAIN[3], How(SIGTERM, "launcher"))
    assert "textmill: SIGTERM received, pretrain stops as soon as it has saved" in told
    assert "without saving" not in told
    go_on(workplace, "pretrain")
    assert_same(workplace, straight, "pretrain")


@pytest.mark.soak
@pytest.mark.parametrize("target", ["one", "all"])
@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
def test_every_moment_of_pretraining(
    number: Signals,
    target: Target,
    straight: Path,
    workplace: Path,
    record_property: Callable[[str, object], None],
) -> None:
    record_property("faults", len(PRETRAIN))
    a_night(workplace, "pretrain", [(stop, How(number, target)) for stop in PRETRAIN])
    assert_same(workplace, straight, "pretrain")
    same(workplace, straight)


@pytest.mark.soak
@pytest.mark.parametrize("target", ["one", "all"])
@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
def test_every_moment_of_fine_tuning(
    number: Signals,
    target: Target,
    tuned: Path,
    untuned: Path,
    record_property: Callable[[str, object], None],
) -> None:
    record_property("faults", len(FINETUNE))
    a_night(untuned, "finetune", [(stop, How(number, target)) for stop in FINETUNE])
    assert_same(untuned, tuned, "finetune")


@pytest.mark.soak
@pytest.mark.parametrize("number", LAUNCHED, ids=lambda number: number.name)
def test_every_signal_to_the_launcher(
    number: Signals,
    straight: Path,
    workplace: Path,
    tuned: Path,
    untuned: Path,
    record_property: Callable[[str, object], None],
) -> None:
    """Each moment by one of the signals."""
    pretrain, finetune = LAUNCHED[number]
    record_property("faults", len(pretrain) + len(finetune))
    how = How(number, "launcher")
    a_night(workplace, "pretrain", [(PRETRAIN[i], how) for i in pretrain])
    assert_same(workplace, straight, "pretrain")
    a_night(untuned, "finetune", [(FINETUNE[i], how) for i in finetune])
    assert_same(untuned, tuned, "finetune")


@pytest.mark.soak
@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
def test_the_first_seconds_of_a_start(
    number: Signals,
    straight: Path,
    workplace: Path,
    record_property: Callable[[str, object], None],
) -> None:
    """Also before Python, the launcher or a rank has asked for the signal."""
    record_property("faults", len(EARLY) + len(LATER))
    early = {stopped_at_its_start(workplace, number, seconds) for seconds in EARLY}
    assert early <= {75, 130, -number}
    for seconds in LATER:
        assert stopped_at_its_start(workplace, number, seconds, is_running=True) == 75
    go_on(workplace, "pretrain")
    assert_same(workplace, straight, "pretrain")
