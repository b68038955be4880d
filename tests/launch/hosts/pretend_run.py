"""A run of the pretend stage on two hosts, and the processes of which it consists."""

import sys
from collections.abc import Sequence
from pathlib import Path

import psutil

from tests.ranks import wait_for
from tests.two_hosts import TwoHosts, holds, line_of

HERE = Path(__file__).parent
STAGE = str(HERE / "pretend_stage.py")
LOST = "textmill: rank 1 on node-02 cannot be followed any more: ssh ended with "


class Run:
    """A run of two ranks that was started on `login`; for `how` and `seconds` see
    pretend_stage.py and start.py."""

    def __init__(self, hosts: TwoHosts, folder: Path, how: str, seconds: float = 60) -> None:
        self.hosts = hosts
        self.folder = folder
        folder.mkdir(exist_ok=True)
        if not (folder / "hostfile").exists():
            hosts.hostfile(folder)
        arguments = [str(HERE / "start.py"), str(seconds), STAGE, how, str(folder)]
        self.process = hosts.start(arguments, folder)

    def are_ready(self) -> None:
        files = [self.folder / f"ready-{rank}" for rank in range(2)]
        wait_for(lambda: all(path.exists() for path in files) or self.has_ended(), "both ranks")
        assert not self.has_ended(), self.end()

    def has_ended(self) -> bool:
        return self.process.poll() is not None

    def end(self) -> tuple[str, list[str]]:
        """How it ended, and the lines before."""
        output, _ = self.process.communicate(timeout=120)
        *lines, last = output.splitlines()
        return last, lines

    def rank(self, number: int) -> psutil.Process:
        """The process of a rank."""
        return psutil.Process(int((self.folder / f"ready-{number}").read_text()))

    def agent(self, number: int) -> psutil.Process:
        """The agent of a rank, on the rank's host."""
        found = self.rank(number).parent()
        assert found is not None
        assert holds(line_of(found), (sys.executable, "-u", "-m", "launch.node"))
        return found

    def ssh(self, number: int) -> psutil.Process:
        """The ssh that leads to a rank's host."""
        words = ("--", self.hosts.names[number])
        # `ip netns exec` becomes the driver.
        children = psutil.Process(self.process.pid).children()
        return only([child for child in children if holds(line_of(child), words)])

    def have_saved(self) -> list[int]:
        return [rank for rank in range(2) if (self.folder / f"saved-{rank}").exists()]


def only(found: Sequence[psutil.Process]) -> psutil.Process:
    (one,) = found
    return one
