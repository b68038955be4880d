"""Which drivers live."""

import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

from finetune.search import drivers
from finetune.search.drivers import Driver, locked


def test_a_driver_lives_while_its_process_does(tmp_path: Path) -> None:
    ours = Driver(tmp_path)
    assert ours.lives(ours.name)
    assert not ours.lives(None)
    script = (
        "import sys; from pathlib import Path; from finetune.search.drivers import Driver;"
        "print(Driver(Path(sys.argv[1])).name)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, tmp_path], capture_output=True, text=True, check=True
    )
    assert not ours.lives(done.stdout.strip())


def test_a_process_of_the_same_number_is_another(tmp_path: Path) -> None:
    assert not Driver(tmp_path).lives(f"{socket.gethostname()}:{os.getpid()}:1")


def test_a_driver_elsewhere_lives_while_it_renews_its_file(tmp_path: Path) -> None:
    ours = Driver(tmp_path)
    other = "elsewhere:17:100"
    assert not ours.lives(other)
    file = ours.file_of(other)
    file.touch()
    assert ours.lives(other)
    late = file.stat().st_mtime - drivers.DEAD_SECONDS - 1
    os.utime(file, (late, late))
    assert not ours.lives(other)


def test_leaving_takes_the_file_away(tmp_path: Path) -> None:
    ours = Driver(tmp_path)
    assert ours.file_of(ours.name).is_file()
    ours.leave()
    assert not ours.file_of(ours.name).exists()


def test_one_at_a_time_is_in_a_lock_and_a_killed_one_is_not(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    script = (
        "import os, signal, sys; from pathlib import Path; from finetune.search.drivers import "
        "locked\nwith locked(Path(sys.argv[1])): os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", script, path], check=False)
    inside: list[str] = []

    def enter() -> None:
        with locked(path):
            inside.append("second")

    with locked(path):
        other = threading.Thread(target=enter)
        other.start()
        other.join(0.2)
        inside.append("first")
    other.join()
    assert inside == ["first", "second"]
