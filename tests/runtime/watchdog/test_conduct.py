"""Looks at real processes, and what two looks tell."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from runtime.watchdog import conduct
from runtime.watchdog.conduct import Conduct, Look
from tests.ranks import wait_for

QUIET = Look("S", {1: ("S", 5.0), 2: ("S", 1.0)}, 6.0, 1000, 3)


@contextmanager
def program(text: str) -> Iterator[subprocess.Popen[bytes]]:
    """A Python process; it has begun when the block is entered."""
    lines = f"print(flush=True)\n{text}"
    process = subprocess.Popen([sys.executable, "-c", lines], stdout=subprocess.PIPE)
    assert process.stdout is not None
    with process.stdout:
        process.stdout.readline()
        try:
            yield process
        finally:
            process.kill()
            process.wait()


def seen(pid: int, seconds: float = 0.5) -> Conduct:
    before = conduct.look(pid)
    began = time.monotonic()
    time.sleep(seconds)
    return conduct.between(before, conduct.look(pid), time.monotonic() - began)


def test_a_process_that_sleeps_does_nothing() -> None:
    with program("import time; time.sleep(600)") as process:
        wait_for(lambda: seen(process.pid) == Conduct(is_known=True), "rest")


def test_a_process_that_computes_is_at_work_or_starved() -> None:
    with program("while True: pass") as process:
        wait_for(lambda: seen(process.pid).is_working, "work")
        found = seen(process.pid)
        assert found.is_known
        assert not any((found.is_stopped, found.is_moving, found.waits_for_disk))


def test_a_child_that_computes_is_work() -> None:
    child = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'while True: pass'])"
    with program(child) as process:
        wait_for(lambda: seen(process.pid).is_working, "the child's work")
        (pid,) = (int(line) for line in children_of(process.pid))
        os.kill(pid, signal.SIGKILL)


def children_of(pid: int) -> list[str]:
    listed = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], stdout=subprocess.PIPE)
    return listed.stdout.decode().split()


def test_bytes_that_move_are_seen() -> None:
    writes = "file.write(bytes(1 << 20)); time.sleep(0.02)"
    text = f"import time\nfile = open('/dev/null', 'wb', 0)\nwhile True: {writes}"
    with program(text) as process:
        assert seen(process.pid).is_moving


def test_a_stopped_process_is_seen_at_once() -> None:
    with program("import time; time.sleep(600)") as process:
        process.send_signal(signal.SIGSTOP)
        wait_for(lambda: conduct.between(None, conduct.look(process.pid), 0).is_stopped, "stop")
        assert conduct.began(process.pid)
        assert seen(process.pid).is_stopped


def test_an_ended_process_is_told_from_the_next_with_its_number() -> None:
    with program("pass") as process:
        wait_for(lambda: conduct.began(process.pid) == 0, "the end, although it is a zombie")
    assert conduct.look(process.pid) is None
    assert conduct.began(os.getpid()) == conduct.began(os.getpid()) > 0


def test_nothing_is_known_without_two_looks() -> None:
    assert conduct.between(None, QUIET, 1.0) == Conduct()
    assert conduct.between(QUIET, None, 1.0) == Conduct()


def test_a_thread_that_wanted_the_processor_in_vain_is_starved() -> None:
    """One thread ran for 0.3 of 2 seconds although it could always have."""
    before = replace(QUIET, busy={1: ("S", 5.0), 2: ("R", 1.0)})
    after = replace(QUIET, busy={1: ("S", 5.0), 2: ("R", 1.3)}, cpu=6.3)
    found = conduct.between(before, after, 2.0)
    assert found == Conduct(is_known=True, is_working=True, starved_seconds=1.7)
    # One that only just became ready wanted nothing before.
    assert conduct.between(QUIET, after, 2.0).starved_seconds == 0.0


def test_a_thread_that_waits_for_a_disk_and_pages_from_swap() -> None:
    waiting = replace(QUIET, busy={1: ("S", 5.0), 2: ("D", 1.0)})
    assert conduct.between(QUIET, waiting, 1.0) == Conduct(is_known=True, waits_for_disk=True)
    swapping = replace(QUIET, faults=4)
    assert conduct.between(QUIET, swapping, 1.0) == Conduct(is_known=True, is_moving=True)
