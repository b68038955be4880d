"""One job at a time, with real processes: owners that live, die, are suspended or elsewhere."""

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from runtime import run_lock
from runtime.errors import BusyError, DataError, LostRankError
from tests.conftest import ROOT
from tests.ranks import wait_for

HOLDER = """
import sys, time
from pathlib import Path
from runtime import run_lock
with run_lock.owned(Path(sys.argv[1]), "the run"):
    print("mine", flush=True)
    sys.stdin.read()
"""
CONTENDER = """
import sys, time
from pathlib import Path
from runtime import run_lock
from runtime.errors import BusyError
path, log, begins = Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3])
time.sleep(max(0.0, begins - time.time()))
for _ in range(15):
    try:
        with run_lock.owned(path, "the run") as lock:
            mark = path.with_name("inside")
            mark.touch(exist_ok=False)  # FileExistsError if two are inside
            with log.open("a") as file:
                file.write("x")
            time.sleep(0.002)
            mark.unlink()
    except BusyError:
        time.sleep(0.001)
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "locks" / "pretrain.json"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_lock, "SILENT_SECONDS", 3.0)
    monkeypatch.setattr(run_lock, "POLL_SECONDS", 0.05)


def python(code: str, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        cwd=ROOT, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def holder(path: Path) -> subprocess.Popen[str]:
    found = python(HOLDER, path)
    assert found.stdout is not None
    assert found.stdout.readline() == "mine\n"
    return found


def end(process: subprocess.Popen[str]) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGCONT)
        process.kill()
    process.communicate()


def rewrite(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_second_job_is_told_who_owns_the_run(path: Path) -> None:
    first = holder(path)
    try:
        with pytest.raises(BusyError) as told:
            run_lock.acquire(path, "pretrain")
        assert told.value.exit_code == 8
        assert f"pretrain is in use by process {first.pid} of " in str(told.value)
        assert "since " in str(told.value)
        assert str(path) in str(told.value)
        first.communicate("")  # its end releases the lock
        run_lock.acquire(path, "pretrain").release()
        assert list(path.parent.iterdir()) == []
    finally:
        end(first)


def test_lock_of_a_killed_owner_is_taken_at_once(path: Path) -> None:
    end(holder(path))
    assert path.exists()
    started = time.monotonic()
    with run_lock.owned(path, "pretrain") as lock:
        assert lock.is_mine()
        assert time.monotonic() - started < 2.5  # without watching it
    assert list(path.parent.iterdir()) == []


def test_another_process_with_the_same_id_is_not_the_owner(path: Path) -> None:
    end(holder(path))
    rewrite(path, pid=1)
    run_lock.acquire(path, "pretrain").release()


def test_owner_elsewhere_is_believed_as_long_as_it_touches_the_file(path: Path) -> None:
    first = holder(path)
    try:
        rewrite(path, place="another machine", host="node-07", job="123")
        toucher = python(
            "import os, sys, time\nwhile True: os.utime(sys.argv[1]); time.sleep(0.3)", path
        )
        try:
            with pytest.raises(BusyError, match="on node-07, SLURM job 123, since"):
                run_lock.acquire(path, "pretrain")
        finally:
            end(toucher)
        started = time.monotonic()
        run_lock.acquire(path, "pretrain").release()
        assert time.monotonic() - started >= 3.0
    finally:
        end(first)


def test_owner_that_was_suspended_notices_and_leaves_the_new_lock_alone(path: Path) -> None:
    lock = run_lock.acquire(path, "pretrain")
    rewrite(path, token="stale", place="elsewhere")  # as if it had been taken over
    with pytest.raises(LostRankError, match="another job has taken over this run"):
        lock.check()
    with pytest.raises(LostRankError):
        run_lock.check_held()
    lock.release()
    assert json.loads(path.read_text())["token"] == "stale"
    run_lock.check_held()


def test_requeued_job_waits_for_its_earlier_start(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "77")
    first = holder(path)
    try:
        waiting = python(HOLDER, path)
        time.sleep(1.0)
        assert waiting.poll() is None
        first.communicate("")
        assert waiting.stdout is not None
        assert waiting.stdout.readline() == "mine\n"
        waiting.communicate("")
        assert waiting.returncode == 0
    finally:
        end(first)


def test_of_many_that_reclaim_at_once_one_wins(path: Path, tmp_path: Path) -> None:
    end(holder(path))
    log = tmp_path / "log"
    begins = time.time() + 3.0
    contenders = [python(CONTENDER, path, log, begins) for _ in range(8)]
    outcomes = [(process.communicate(timeout=120)[1], process.returncode) for process in contenders]
    assert [code for _, code in outcomes] == [0] * 8, outcomes
    assert log.read_text()
    assert list(path.parent.iterdir()) == []


def test_death_in_the_middle_of_reclaiming_blocks_nobody(path: Path) -> None:
    end(holder(path))
    dead = json.loads(path.read_text())["token"]
    end(holder(path.with_name(f"{path.name}.{dead}")))  # died with the lock of the lock
    run_lock.acquire(path, "pretrain").release()
    assert list(path.parent.iterdir()) == []


def test_copy_of_a_locked_folder_is_free(path: Path, tmp_path: Path) -> None:
    with run_lock.owned(path, "pretrain"):
        shutil.copytree(path.parent, tmp_path / "copied")
        run_lock.acquire(tmp_path / "copied" / path.name, "pretrain").release()
        assert list((tmp_path / "copied").iterdir()) == []


def test_damaged_lock_is_named(path: Path) -> None:
    path.parent.mkdir()
    path.write_text('{"token"')
    with pytest.raises(DataError, match="is damaged; remove it if no job"):
        run_lock.acquire(path, "pretrain")
    assert list(path.parent.iterdir()) == [path]


def test_the_file_is_touched_while_it_is_held(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_lock, "BEAT_SECONDS", 0.1)
    with run_lock.owned(path, "pretrain"):
        before = path.stat().st_mtime_ns
        wait_for(lambda: path.stat().st_mtime_ns > before, "a touch", 10)
