"""Command lines and environments of trials, as they would be started."""

import subprocess
import sys
from pathlib import Path

import pytest

from finetune.search import places, starts
from finetune.search.places import Place, Seat, Step
from finetune.search.starts import Start
from launch.hosts.driver import Wanted
from launch.hosts.nodes import Node

ARGUMENTS = ["-m", "finetune", "train", "trials/3/recipe.toml"]
RANK_NAMES = {"RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"}


def of(place: Place, environment: dict[str, str] | None = None) -> Start:
    return starts.of(place, ARGUMENTS, Path("trials/3"), Path("cache"), environment or {})


def test_one_rank_is_a_plain_command() -> None:
    (place,) = places.local_places(1, 1, [], 4)
    found = of(place, {"HOME": "/h", "RANK": "5", "OMP_NUM_THREADS": "7"})
    assert found.line == (sys.executable, *ARGUMENTS)
    assert found.environment["HOME"] == "/h"
    assert found.environment["OMP_NUM_THREADS"] == "7"  # what the user has set stays
    assert not RANK_NAMES & set(found.environment)
    assert found.environment["TORCH_EXTENSIONS_DIR"].endswith("cache/place-0/torch_extensions")
    assert "CUDA_VISIBLE_DEVICES" not in found.environment
    assert of(place).environment["OMP_NUM_THREADS"] == "4"


def test_the_only_rank_sees_the_gpu_of_its_place() -> None:
    _, place = places.local_places(2, 2, ["0", "4"], 16)
    found = of(place, {"CUDA_VISIBLE_DEVICES": "0,4"})
    assert found.environment["CUDA_VISIBLE_DEVICES"] == "4"


def test_several_ranks_are_started_together() -> None:
    _, place = places.local_places(4, 2, ["0", "2", "4", "6"], 16)
    found = of(place, {"HOME": "/h", "RANK": "5"})
    assert found.line == (sys.executable, "-m", "launch.hosts")
    assert found.environment == {"HOME": "/h"}
    assert found.wanted == Wanted(
        (Node(None, 0, 2, ("4", "6")),),
        tuple(ARGUMENTS),
        Path("trials/3"),
        Path("cache/place-1"),
        threads=4,
    )


def test_a_single_rank_on_a_host_is_started_there() -> None:
    place = Place(0, "host", 1, (Seat("node-01", "2"),), sent={"A": "b c"})
    found = of(place, {"SECRET": "x"})
    assert found.wanted is not None
    assert found.wanted.nodes == (Node("node-01", 0, 1, ("2",)),)
    assert found.wanted.environment == {"A": "b c"}
    assert Wanted.of_json(found.wanted.to_json()) == found.wanted


def test_a_step_of_an_allocation() -> None:
    step = Step(nodes=2, tasks=8, cpus_per_task=6, gpus_per_node=4)
    found = of(Place(1, "two nodes", 6, step=step), {"SLURM_JOB_ID": "77"})
    assert found.line[:9] == (
        "srun", "--nodes=2", "--ntasks=8", "--exclusive", "--mem=0", "--cpus-per-task=6",
        "--gpus-per-node=4", "--kill-on-bad-exit=1", "bash",
    )  # fmt: skip
    assert found.line[-5:] == (sys.executable, *ARGUMENTS)
    assert found.is_step
    assert found.environment["SLURM_JOB_ID"] == "77"
    plain = Step(nodes=1, tasks=1, cpus_per_task=None, gpus_per_node=None)
    other = of(Place(0, "a node", 1, step=plain))
    assert "--cpus-per-task" not in " ".join(other.line)
    assert other.environment["MASTER_PORT"] != found.environment["MASTER_PORT"]


@pytest.mark.parametrize(("code", "seen"), [(0, 0), (75, 0), (3, 3)])
@pytest.mark.parametrize(("nodes", "address"), [(1, "127.0.0.1"), (2, "n1")])
def test_a_task_that_saved_is_no_failure_of_its_step(
    tmp_path: Path, code: int, seen: int, nodes: int, address: str
) -> None:
    scontrol = tmp_path / "scontrol"
    scontrol.write_text("#!/bin/sh\nprintf 'n1\\nn2\\n'\n")
    scontrol.chmod(0o755)
    program = ["bash", "-c", starts.STEP, "trial", "sh", "-c", f'echo "$MASTER_ADDR"; exit {code}']
    done = subprocess.run(
        program,
        env={"PATH": f"{tmp_path}:/usr/bin:/bin", "SLURM_STEP_NODELIST": "n[1-2]",
             "SLURM_STEP_NUM_NODES": str(nodes)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (seen, f"{address}\n")
