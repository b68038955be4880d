"""What cannot be written beside checkpoints: pictures never end a run, numbers end it in order.

`/dev/full` refuses every byte with "No space left on device", to any user and on any disk; a folder
that another file system is mounted into read-only refuses root as well.
"""

import errno
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from runtime import event_file
from runtime.tracking import METRICS, Tracker
from tests.faults.disks import mounted
from tests.pretrain.conftest import prepared
from tests.pretrain.runs import assert_same, finished, metrics, records, stage, start
from tests.ranks import ROOT, run_ranks

__all__ = ["prepared"]  # a fixture
FULL = Path("/dev/full")
UNWRITABLE = [str(Path(__file__).with_name("unwritable_logs.py"))]


def points(folder: Path, tag: str) -> list[tuple[int, float]]:
    accumulator = EventAccumulator(str(folder))
    accumulator.Reload()
    if tag not in accumulator.Tags()["scalars"]:
        return []
    return [(event.step, event.value) for event in accumulator.Scalars(tag)]


def lines(folder: Path) -> list[tuple[int, float]]:
    rows = map(json.loads, (folder / METRICS).read_text().splitlines())
    return [(row["step"], row["loss/train"]) for row in rows]


@contextmanager
def full(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Inside, every new event file is on a full disk."""
    with monkeypatch.context() as patch:
        patch.setattr(event_file, "next_event_file", lambda folder: FULL)
        yield


def test_events_that_cannot_be_written_are_said_once_and_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with full(monkeypatch), Tracker(tmp_path, 0, total_steps=9, is_writer=True) as tracker:
        for step in range(4):
            tracker.log(step, {"loss/train": 1.0})
        tracker.flush()  # a checkpoint is written all the same
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == 2, told
    assert "TensorBoard's events cannot be written to" in told[0]
    assert "No space left on device" in told[0]
    # 4 points and the arrangement of charts, which is tried again with each of them
    assert told[1].startswith("8 of TensorBoard's events were lost"), told
    assert lines(tmp_path) == [(step, 1.0) for step in range(4)]


def test_events_go_on_in_a_new_file_when_there_is_room_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with Tracker(tmp_path, 0, total_steps=9, is_writer=True) as tracker:
        tracker.log(0, {"loss/train": 1.0})
        assert tracker.events.file is not None
        os.dup2(os.open(FULL, os.O_WRONLY), tracker.events.file.fileno())  # the disk fills up
        with full(monkeypatch):
            for step in (1, 2):
                tracker.log(step, {"loss/train": 1.0})
        for step in (3, 4):
            tracker.log(step, {"loss/train": 1.0})
    assert points(tmp_path, "loss/train") == [(0, 1.0), (3, 1.0), (4, 1.0)]
    assert lines(tmp_path) == [(step, 1.0) for step in range(5)]
    assert "TensorBoard's events are written again; " in caplog.text
    with Tracker(tmp_path, 3, total_steps=9, is_writer=True) as tracker:  # resumed: 4 is cut
        tracker.log(4, {"loss/train": 2.0})
    assert points(tmp_path, "loss/train") == [(0, 1.0), (3, 1.0), (4, 2.0)]


def test_a_first_file_that_comes_late_still_begins_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Tracker(tmp_path, 0, total_steps=9, is_writer=True) as tracker:
        tracker.log(5, {"loss/train": 1.0})
    with full(monkeypatch):
        tracker = Tracker(tmp_path, 2, total_steps=9, is_writer=True)
        tracker.log(3, {"loss/train": 2.0})
    tracker.log(4, {"loss/train": 2.0})
    tracker.close()
    assert points(tmp_path, "loss/train") == [(4, 2.0)]  # that of step 5 was before the resume


def test_a_line_of_metrics_that_cannot_be_written_is_kept_for_the_ranks_to_agree(
    tmp_path: Path,
) -> None:
    (tmp_path / METRICS).symlink_to(FULL)
    with Tracker(tmp_path, 0, total_steps=9, is_writer=True) as tracker:
        tracker.log(1, {"loss/train": 1.0})
        assert tracker.fault is not None
        assert tracker.fault.errno == errno.ENOSPC
        assert tracker.fault.filename == str(tmp_path / METRICS)
        with pytest.raises(OSError, match="No space left"):
            tracker.flush()
    assert points(tmp_path, "loss/train") == [(1, 1.0)]


def test_a_console_that_cannot_be_written_to_ends_no_run() -> None:
    """Under a full disk behind stdout, and with no reader at the end of a pipe."""
    script = (
        "import tempfile, pathlib\n"
        "from runtime import command\n"
        "from runtime.tracking import Tracker\n"
        "def main():\n"
        "    with tempfile.TemporaryDirectory() as name:\n"
        "        with Tracker(pathlib.Path(name), 0, 9, is_writer=True) as tracker:\n"
        "            tracker.log(1, {'loss/train': 1.0})\n"
        "            tracker.log(2, {'loss/train': 1.0})\n"
        "        return 0 if tracker.fault is None else 1\n"
        "command.leave(main)\n"
    )
    arguments = [sys.executable, "-c", script]
    with FULL.open("wb") as nowhere:
        done = subprocess.run(arguments, cwd=ROOT, stdout=nowhere, stderr=subprocess.PIPE)
    assert (done.returncode, done.stderr) == (0, b"")
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(arguments, cwd=ROOT, stdout=writer, stderr=subprocess.PIPE)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.distributed
def test_a_run_without_tensorboard_ends_as_one_with_it(prepared: Path, tmp_path: Path) -> None:
    """Two runs of the same recipe on two ranks, one of which never gets an event file."""
    straight, blind = tmp_path / "straight", tmp_path / "blind"
    for folder in (straight, blind):
        shutil.copytree(prepared, folder)
    finished(straight)
    done = run_ranks([*UNWRITABLE, "events", "recipe.toml"], 2, blind, timeout_seconds=120)
    assert done.exit_codes == [0, 0], done.text
    assert done.text.count("TensorBoard's events cannot be written") == 1
    assert not list(stage(blind).glob("events.out.tfevents.*"))
    assert_same(blind, straight)
    tags = [set(line) for line in metrics(straight)]
    assert [set(line) for line in metrics(blind)] == tags


@pytest.mark.distributed
@pytest.mark.parametrize("what", ["metrics", "ledger"])
def test_numbers_that_cannot_be_written_end_all_ranks_with_code_7(
    what: str, prepared: Path, tmp_path: Path
) -> None:
    """From step 6 on, on one rank: the last checkpoint is that of step 4, and what was lost is
    written when the run goes on from there."""
    folder = tmp_path / "workplace"
    shutil.copytree(prepared, folder)
    ended = run_ranks([*UNWRITABLE, what, "recipe.toml"], 2, folder, timeout_seconds=120)
    assert ended.exit_codes == [7, 7], ended.text
    rank, name = {"metrics": (0, METRICS), "ledger": (1, "rank-00001.jsonl")}[what]
    for text in ended.outputs:
        (cause,) = [line for line in text.splitlines() if line.startswith("textmill: ")]
        assert "DiskError: the logs of this run cannot be written" in cause
        assert f"rank {rank}: [Errno 28] No space left on device" in cause
        assert name in cause
        assert "the last checkpoint, of step 4, is intact" in cause
        assert "Traceback" not in text
    finished(folder)
    assert [line["step"] for line in metrics(folder)] == list(range(13))
    for number in (0, 1):
        assert [record["step"] for record in records(folder, number)] == list(range(1, 13))


@pytest.mark.distributed
def test_a_disk_that_is_read_only_ends_all_ranks_with_code_7(
    prepared: Path, tmp_path: Path
) -> None:
    """From the start; nobody can write to it, root neither."""
    with mounted(tmp_path / "disk", 8192) as disk:
        shutil.copytree(prepared / "run", disk.folder, dirs_exist_ok=True)
        disk.make_read_only()
        ended = start(prepared, 2, f'output="{disk.folder}"')
    assert ended.exit_codes == [7, 7], ended.text
    assert "Read-only file system" in ended.text
    assert "Traceback" not in ended.text
