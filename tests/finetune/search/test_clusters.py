"""Searches whose trials run on other machines: hosts reached by ssh, and steps of a SLURM job. Both
come to what a search on this machine finds."""

import json
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.finetune.conftest import write_encoder, write_workplace
from tests.finetune.search.searching import add_search, searched, variables
from tests.ranks import ROOT, wait_for
from tests.slurm_cluster import Cluster, is_idle, slurm
from tests.two_hosts import TwoHosts, two_hosts

__all__ = ["slurm", "two_hosts"]  # fixtures
pytestmark = [pytest.mark.slow, pytest.mark.distributed]
SPACE = """
[search]
target = "people"
sampler = "grid"
pruner = "none"
top = 0
[search.space]
"tasks.people.learning_rate" = { values = [5e-3, 1e-3] }
"""
OVERRIDES = ("tasks.people.epochs=6", "search.parallel=2")
SEARCH = Path("run/finetune/search/people")
COMMAND = ["-m", "finetune", "search", "recipe.toml", *OVERRIDES]


def write(folder: Path) -> Path:
    """The folder of a recipe with two trials, which need no more than two ranks."""
    folder.mkdir()
    write_workplace(folder, write_encoder(folder / "encoder"))
    add_search(folder, SPACE)
    return folder


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the search finds on this machine."""
    folder = write(tmp_path_factory.mktemp("here") / "workplace")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr("finetune.search.places.num_cores", lambda: 2)
        return searched(folder / "recipe.toml", OVERRIDES)


def outcome(found: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    return [(each["values"], each["state"], each["score"]) for each in found["trials"]]


def result(folder: Path) -> Any:
    return json.loads((folder / SEARCH / "search.json").read_text())


def test_trials_on_hosts_are_stopped_and_go_on(
    two_hosts: TwoHosts, here: dict[str, Any], tmp_path: Path
) -> None:
    """One on each host, at the same time."""
    folder = write(tmp_path / "workplace")
    two_hosts.hostfile(folder)
    command = [*COMMAND, "--hostfile", "hostfile"]
    for is_stopped in (True, False):
        process = two_hosts.start(command, folder)
        try:
            if is_stopped:
                wait_for(
                    lambda: all(two_hosts.running(n, "-m", "finetune") for n in two_hosts.names),
                    "a trial on each host",
                )
                process.send_signal(signal.SIGTERM)
            output, _ = process.communicate(timeout=300)
        finally:
            process.kill()
            process.wait()
        assert process.returncode == (75 if is_stopped else 0), output
        two_hosts.nothing_left()
    assert outcome(result(folder)) == outcome(here)


def test_trials_are_steps_of_an_allocation(
    slurm: Cluster, here: dict[str, Any], tmp_path: Path
) -> None:
    """At the same time, each on a node of its own."""
    folder = write(tmp_path / "workplace")
    job = ("--nodes=2", "--ntasks-per-node=1", "--cpus-per-task=1", "--immediate=120")
    process = subprocess.Popen(
        ["salloc", *job, sys.executable, *COMMAND, 'launch.launcher="slurm"'],
        cwd=folder, env=variables(ROOT) | {"SLURM_CONF": str(slurm.config)},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    try:
        wait_for(lambda: nodes_of_steps(slurm) == ["n1", "n2"], "a trial on each node")
        output, _ = process.communicate(timeout=300)
    finally:
        process.terminate()
        process.wait()
    assert process.returncode == 0, output
    assert outcome(result(folder)) == outcome(here)
    wait_for(lambda: is_idle(slurm), "the nodes to be idle")


def nodes_of_steps(cluster: Cluster) -> list[str]:
    """Of the steps that run; a job has steps of SLURM's own beside them."""
    steps = cluster.run("squeue", "--steps", "--noheader", "--format=%i %N").split("\n")
    found = [line.split() for line in steps if line.strip()]
    return sorted(node for name, node in found if name.split(".")[1].isdigit())
