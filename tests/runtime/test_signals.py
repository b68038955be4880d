"""Stop signals set a flag, even twice and before torch; run in a process of their own."""

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

SCRIPT = textwrap.dedent(
    """
    import os, signal, sys
    from runtime import signals
    assert not signals.stop_requested() and signals.signal_name() is None
    signals.install()
    signals.install()
    for name in sys.argv[1:]:
        os.kill(os.getpid(), getattr(signal, name))
    print(signals.stop_requested(), signals.signal_name(), "torch" in sys.modules)
    """
)


def stopped_by(root: Path, *names: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", SCRIPT, *names], cwd=root, capture_output=True, text=True
    )


@pytest.mark.parametrize("name", ["SIGTERM", "SIGUSR1", "SIGUSR2", "SIGINT", "SIGHUP"])
def test_a_signal_is_remembered_and_named(root: Path, name: str) -> None:
    done = stopped_by(root, name)
    assert done.stdout.split() == ["True", name, "False"]
    assert done.stderr == f"textmill: {name} received, stopping as soon as all is saved\n"


def test_a_second_signal_does_not_kill(root: Path) -> None:
    done = stopped_by(root, "SIGUSR1", "SIGTERM", "SIGTERM")
    assert done.returncode == 0
    assert done.stdout.split() == ["True", "SIGUSR1", "False"]
    assert done.stderr.count("textmill:") == 1


def test_a_command_under_nohup_ignores_the_end_of_its_terminal(root: Path) -> None:
    done = subprocess.run(
        ["sh", "-c", "trap '' HUP; exec \"$@\"", "sh", sys.executable, "-c", SCRIPT, "SIGHUP"],
        cwd=root, capture_output=True, text=True,
    )  # fmt: skip
    assert done.stdout.split() == ["False", "None", "False"]


def test_nothing_is_claimed_without_a_signal(root: Path) -> None:
    assert stopped_by(root).stdout.split() == ["False", "None", "False"]
