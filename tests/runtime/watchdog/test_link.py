"""Two ranks on two machines (network namespaces) whose link goes down."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests import debian
from tests.ranks import variables, wait_for

PROGRAM = Path(__file__).with_name("rank_program.py")
PORT = 29_555  # of a network that nobody else is in
pytestmark = [
    pytest.mark.distributed,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can make network namespaces"),
]


def ip(*arguments: str, check: bool = True) -> None:
    subprocess.run(["ip", *arguments], check=check, capture_output=True)


@dataclass(frozen=True)
class Machines:
    """Two namespaces with a cable between them."""

    names: tuple[str, str]
    cables: tuple[str, str]
    addresses: tuple[str, str] = ("10.77.0.1", "10.77.0.2")

    def cut(self) -> None:
        ip("-n", self.names[0], "link", "set", self.cables[0], "down")


@pytest.fixture
def machines() -> Iterator[Machines]:
    if shutil.which("ip") is None:
        debian.install_or_skip(["iproute2"])
    unique = str(os.getpid())
    found = Machines((f"tmwA{unique}", f"tmwB{unique}"), (f"a{unique}", f"b{unique}"))
    (first, second), (ours, theirs) = found.names, found.cables
    try:
        for name in found.names:
            ip("netns", "add", name)
            ip("-n", name, "link", "set", "lo", "up")
        ip("link", "add", ours, "netns", first, "type", "veth", "peer", theirs, "netns", second)
        for name, cable, address in zip(*vars(found).values(), strict=True):
            ip("-n", name, "addr", "add", f"{address}/24", "dev", cable)
            ip("-n", name, "link", "set", cable, "up")
        yield found
    except subprocess.CalledProcessError as error:
        if debian.must_be_there() and b"not permitted" not in error.stderr:
            raise
        pytest.skip(f"no network namespaces here: {error.stderr.decode()}")
    finally:
        for name in found.names:
            ip("netns", "delete", name, check=False)


@pytest.mark.parametrize(
    "given",
    [
        {"min_seconds": 3},
        # Where a rank may be silent for minutes, unless its machine is, too.
        {"min_seconds": 10, "fault": ["all", 25, "evaluate_for_ever"]},
    ],
    ids=["in_a_step", "in_an_evaluation"],
)
def test_each_side_names_the_other_and_ends(
    machines: Machines, tmp_path: Path, given: dict[str, object]
) -> None:
    told = json.dumps({"steps": 100_000, "seconds": 0.05, **given})
    logs = [tmp_path / f"log-{rank}" for rank in range(2)]
    ranks = []
    try:
        for rank, log in enumerate(logs):
            environment = variables(rank, 2, PORT) | {
                "MASTER_ADDR": machines.addresses[0],
                "GLOO_SOCKET_IFNAME": machines.cables[rank],
                "TEXTMILL_HOST": f"node-{rank}",
            }
            enter = ["ip", "netns", "exec", machines.names[rank]]
            with log.open("wb") as output:
                ranks.append(
                    subprocess.Popen(
                        [*enter, sys.executable, str(PROGRAM), told],
                        cwd=tmp_path,
                        env=environment,
                        stdout=output,
                        stderr=subprocess.STDOUT,
                    )
                )
        wait_for(lambda: done_steps(tmp_path) >= 24, "steps", 120)
        time.sleep(3)  # beats, which say where the ranks are
        machines.cut()
        codes = [rank.wait(90) for rank in ranks]
    finally:
        for process in ranks:
            process.kill()
            process.wait()
    assert codes == [5, 5], [log.read_text() for log in logs]
    for rank, log in enumerate(logs):
        (said,) = (line for line in log.read_text().splitlines() if line.startswith("textmill: "))
        other = 1 - rank
        assert said.startswith(f"textmill: rank {other} on node-{other} (pid {ranks[other].pid})")
        assert " cannot be reached, its machine or the link to it is down: no heartbeat" in said
        assert ("last seen in evaluation in forward of step 25" in said) == ("fault" in given)


def done_steps(folder: Path) -> int:
    path = folder / "step-1"
    return int(path.read_text() or 0) if path.is_file() else 0
