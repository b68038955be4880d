"""Nights of preemptions: one run, stopped at moment after moment, each start going on where the one
before was stopped."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import psutil

from runtime import retention
from tests.faults.oracle import is_temporary
from tests.pretrain import runs
from tests.ranks import ROOT, Rank, run_ranks, wait_for

Stage = Literal["pretrain", "finetune"]
Target = Literal["launcher", "one", "all"]
Signal = signal.Signals
HERE = Path(__file__).parent
PAUSED = HERE / "paused_run.py"
FOLDERS: dict[Stage, str] = {"pretrain": "run/pretrain", "finetune": "run/finetune/craft/seed-0"}
# Of the wall clock and of this process: no two runs share them.
OF_ONE_START = ("time", "perf/", "mem/")
LAUNCH = ("-m", "launch", "run", "recipe.toml", "launch.ranks=2")


@dataclass(frozen=True)
class Stop:
    """A start of the run and the signals that stop it; `moments` are those of tests/faults/pauses,
    at each of which the signals are sent."""

    moments: tuple[tuple[str, int], ...]
    step: int  # of the checkpoint that it must end with; 0: none
    times: int = 1  # that each signal is sent at the first moment


@dataclass(frozen=True)
class How:
    """To whom which signal is sent."""

    number: Signal
    target: Target

    def __str__(self) -> str:
        return f"{self.number.name}-{self.target}"


def stopped(folder: Path, stage: Stage, stop: Stop, how: How) -> str:
    """Start the run, stop it, and check where it stands; returns what it has printed."""
    room = folder / "pauses"
    room.mkdir(exist_ok=True)
    for mark in room.iterdir():
        mark.unlink()
    plan = json.dumps({"folder": str(room), "moments": stop.moments})
    if how.target == "launcher":
        codes, text = by_launcher(folder, plan, room, stop, how)
    else:
        done = run_ranks(
            [PAUSED, plan, stage, "recipe.toml"], 2, folder, timeout_seconds=240,
            when_running=lambda ranks: interrupt(ranks, room, stop, how),
        )  # fmt: skip
        codes, text = done.exit_codes, done.text
    where = f"{stop} by {how}:\n{text}"
    assert set(codes) == {75}, f"{codes} after {where}"
    assert "Traceback" not in text, where
    missing = [
        number for number in range(len(stop.moments)) if not (room / f"at-{number}-1").exists()
    ]
    assert not missing, f"moments {missing} never came: {where}"
    assert last_step(folder, stage) == stop.step, where
    assert saved_step(folder, stage) == stop.step, where
    return text


def interrupt(ranks: Sequence[Rank], room: Path, stop: Stop, how: How) -> None:
    """Send the signals to real ranks as they come to the moments."""
    told = ranks if how.target == "all" else ranks[-1:]

    def send() -> None:
        for rank in told:
            rank.send_signal(how.number)

    hear = [ranks.index(rank) for rank in told]
    at_moments(room, stop, send, hear, lambda: any(rank.poll() is not None for rank in ranks))


def by_launcher(folder: Path, plan: str, room: Path, stop: Stop, how: How) -> tuple[list[int], str]:
    """The same by `textmill run`, whose end is that of its ranks."""
    path = os.pathsep.join((str(HERE / "paused_start"), str(ROOT)))
    with launched(folder, {"PYTHONPATH": path, "TEXTMILL_PAUSES": plan}) as process:
        at_moments(
            room, stop, lambda: process.send_signal(how.number), [0, 1],
            lambda: process.poll() is not None,
        )  # fmt: skip
        text = process.communicate(timeout=240)[0]
    return [process.returncode], text


def stopped_at_its_start(
    folder: Path, number: Signal, seconds: float, is_running: bool = False
) -> int:
    """Send `textmill run` a signal so long after it was started, or after it has said that it
    starts the ranks; returns its exit code."""
    with launched(folder, {"PYTHONPATH": str(ROOT)}) as process:
        assert process.stdout is not None
        while is_running and not process.stdout.readline().startswith("pretrain: starting"):
            assert process.poll() is None
        time.sleep(seconds)
        process.send_signal(number)
        process.communicate(timeout=240)
    return process.returncode


@contextmanager
def launched(folder: Path, environment: Mapping[str, str]) -> Iterator["subprocess.Popen[str]"]:
    """`textmill run`, which must end in the block with all that it has started."""
    process = subprocess.Popen(
        [sys.executable, *LAUNCH],
        cwd=folder, env={**os.environ, **environment}, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    family: set[psutil.Process] = set()
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(0.1):
            with suppress(psutil.NoSuchProcess):
                family.update(psutil.Process(process.pid).children(recursive=True))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield process
        ended.set()
        watcher.join()
        wait_for(lambda: not any(map(is_there, family)), "the end of all processes")
    finally:
        ended.set()
        watcher.join()
        process.kill()
        process.wait()
        for each in family:
            with suppress(psutil.NoSuchProcess):
                each.kill()


def is_there(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def at_moments(
    room: Path,
    stop: Stop,
    send: Callable[[], None],
    hear: Sequence[int],
    has_ended: Callable[[], bool],
) -> None:
    """Send at every moment, then let the ranks go on; returns early where one has ended."""

    def wait(mark: str, number: int, ranks: Sequence[int]) -> None:
        marks = [room / f"{mark}-{number}-{rank}" for rank in ranks]
        claim = f"{mark} {number} of {stop}"
        wait_for(lambda: all(path.exists() for path in marks) or has_ended(), claim)

    for number in range(len(stop.moments)):
        wait("at", number, range(2))
        for _ in range(1 if number else stop.times):
            send()
            time.sleep(0.1)
        wait("heard", number, hear)
        (room / f"go-{number}").touch()


def ledgers(folder: Path, stage: Stage) -> dict[str, list[str]]:
    paths = sorted((folder / FOLDERS[stage] / "ledger").glob("rank-*.jsonl"))
    return {path.name: path.read_text().splitlines() for path in paths}


def last_step(folder: Path, stage: Stage) -> int:
    """The last step in the ledger; fails if the ranks disagree."""
    steps = {
        len(lines) and json.loads(lines[-1])["step"] for lines in ledgers(folder, stage).values()
    }
    assert len(steps) <= 1, f"the ranks stopped at different steps: {steps}"
    return steps.pop() if steps else 0


def saved_step(folder: Path, stage: Stage) -> int:
    """The newest checkpoint's; 0: there is none."""
    return max(retention.steps(folder / FOLDERS[stage] / "checkpoints"), default=0)


def metrics(folder: Path, stage: Stage) -> list[dict[str, Any]]:
    """metrics.jsonl without what differs from start to start."""
    text = (folder / FOLDERS[stage] / "metrics.jsonl").read_text()
    records = [json.loads(line) for line in text.splitlines()]
    return [
        {tag: value for tag, value in record.items() if not tag.startswith(OF_ONE_START)}
        for record in records
    ]


def assert_same(ours: Path, theirs: Path, stage: Stage) -> None:
    """The same ledgers and metrics, line by line and bit by bit, and the same exported weights."""
    assert ledgers(ours, stage) == ledgers(theirs, stage)
    assert metrics(ours, stage) == metrics(theirs, stage)
    if stage == "pretrain":
        assert runs.weights(ours) == runs.weights(theirs)
    else:
        export = "run/finetune/craft/export/model.safetensors"
        assert (ours / export).read_bytes() == (theirs / export).read_bytes()
    assert not [path for path in (ours / "run").rglob("*") if is_temporary(path)]
