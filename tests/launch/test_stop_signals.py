"""What `textmill run` makes of stop signals: passed on once, never a reason to destroy a save, and
heard between stages too. With real ranks: tests/faults/test_preemption.py."""

import itertools
import os
import signal
from collections.abc import Sequence
from pathlib import Path

import pytest

from launch import pipeline, stage_process
from runtime import stages
from runtime.command import Arguments
from runtime.errors import StopRequested
from runtime.stages import Plan
from tests.pretrain.conftest import RECIPE

INT, TERM, HUP, USR1, USR2 = (
    *(signal.SIGINT, signal.SIGTERM, signal.SIGHUP),
    *(signal.SIGUSR1, signal.SIGUSR2),
)


def done_at(numbers: Sequence[int], before: Sequence[int] = ()) -> list[str]:
    """What is done to a stage while these signals come, after others."""
    found: list[str] = []
    stop, end = (lambda: found.append("stop")), (lambda: found.append("end"))
    with stage_process.forwarded("pretrain", stop, end) as received:
        for number in numbers:
            os.kill(os.getpid(), number)
    assert received == [*before, *numbers]
    return found


@pytest.mark.parametrize("numbers", list(itertools.product((TERM, USR1, USR2, HUP), repeat=2)))
def test_what_schedulers_send_twice_stops_once(numbers: tuple[int, ...]) -> None:
    assert done_at([*numbers, *numbers]) == ["stop"]


@pytest.mark.parametrize("first", [TERM, USR1, USR2, HUP])
def test_an_interrupt_after_it_ends_at_once(first: int) -> None:
    assert done_at([first, INT]) == ["stop", "end"]


def test_one_press_that_comes_twice_is_one(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert done_at([INT, INT]) == ["stop"]
    assert capfd.readouterr().out == (
        "textmill: SIGINT received, pretrain stops as soon as it has saved; Ctrl-C again ends it "
        "without saving\n"
    )
    monkeypatch.setattr(stage_process, "SAME_PRESS_SECONDS", 0.0)
    assert done_at([INT, INT]) == ["stop", "end"]
    assert "SIGINT received again, ending pretrain without saving" in capfd.readouterr().out


def test_a_scheduler_after_an_interrupt_ends_nothing() -> None:
    assert done_at([INT, TERM, TERM]) == ["stop"]


def test_a_signal_between_stages_starts_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("recipe.toml").write_text(RECIPE, encoding="utf-8")
    planned: list[str] = []

    def plan(stage: str, *others: object) -> Plan:
        planned.append(stage)
        os.kill(os.getpid(), USR1)
        return Plan(stage, tmp_path, "")

    monkeypatch.setattr(stages, "plan", plan)
    before = [signal.getsignal(number) for number in stage_process.STOP_SIGNALS]
    with pytest.raises(StopRequested, match="stopped before data_prep; run the same command again"):
        pipeline.run(Arguments(Path("recipe.toml"), (), False))
    assert planned == ["data_prep"]
    assert "textmill: SIGUSR1 received, no other stage is started" in capfd.readouterr().out
    assert [signal.getsignal(number) for number in stage_process.STOP_SIGNALS] == before


def test_a_signal_just_before_a_stage_stops_it_at_once() -> None:
    with stage_process.noted():
        os.kill(os.getpid(), USR1)
        assert done_at([], before=[USR1]) == ["stop"]
    assert done_at([]) == []
