"""Collectives: alone without a process group, and on two real gloo ranks."""

import json
import os
import socket
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from runtime import processes

RANK_PROGRAM = textwrap.dedent(
    """
    import json
    from runtime import processes
    processes.start(60)
    processes.start(60)
    rank = processes.rank()
    found = {
        "rank": rank,
        "world": processes.world_size(),
        "sum": processes.sum_over_ranks([1 + rank, 0.5, 2**53 - 1 if rank else 0]),
        "any": [processes.any_rank(rank == 1), processes.any_rank(False)],
        "all": [processes.all_ranks(True), processes.all_ranks(rank == 1)],
        "from_0": processes.from_rank_0({"seed": [rank]}),
        "gather": processes.gather(f"r{rank}"),
        "device": str(processes.device()),
    }
    processes.barrier()
    processes.stop()
    print(json.dumps(found))
    """
)


def ranks(root: Path, environments: list[dict[str, str]]) -> list[dict[str, object]]:
    """Run the program once per environment, at the same time; what each rank found."""
    running = [
        subprocess.Popen(
            [sys.executable, "-c", RANK_PROGRAM],
            cwd=root,
            env={**os.environ, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for environment in environments
    ]
    results = [process.communicate(timeout=120) for process in running]
    assert [process.returncode for process in running] == [0] * len(running), results
    return [json.loads(out) for out, _ in results]


def free_port() -> str:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return str(taken.getsockname()[1])


def test_alone_everything_works_without_a_process_group() -> None:
    assert (processes.rank(), processes.world_size()) == (0, 1)
    assert processes.sum_over_ranks([1, 2.5]) == [1.0, 2.5]
    assert processes.any_rank(True)
    assert not processes.any_rank(False)
    assert not processes.all_ranks(False)
    assert processes.from_rank_0("x") == "x"
    assert processes.gather("x") == ["x"]
    processes.barrier()
    processes.stop()


@pytest.mark.distributed
@pytest.mark.parametrize(
    "names",
    [("RANK", "WORLD_SIZE", "LOCAL_RANK"), ("SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID")],
    ids=["torch", "slurm"],
)
def test_two_ranks_agree(root: Path, names: tuple[str, str, str]) -> None:
    rank_name, world_name, local_name = names
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port(), world_name: "2"}
    if rank_name.startswith("SLURM"):
        shared["SLURM_STEP_ID"] = "0"
    first, second = ranks(
        root, [{**shared, rank_name: str(rank), local_name: str(rank)} for rank in (0, 1)]
    )
    assert (first.pop("rank"), second.pop("rank")) == (0, 1)
    assert first == second
    assert first["sum"] == [3.0, 1.0, 2.0**53 - 1]  # counts stay exact
    assert first["any"] == [True, False]
    assert first["all"] == [True, False]
    assert first["from_0"] == {"seed": [0]}
    assert first["gather"] == ["r0", "r1"]


def test_alone_start_makes_a_group_of_one(root: Path) -> None:
    (found,) = ranks(root, [{}])
    assert (found["rank"], found["world"]) == (0, 1)
    assert found["gather"] == ["r0"]
