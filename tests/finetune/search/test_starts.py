"""Command lines and environments of trials, as they would be started."""

import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from finetune.search import places, starts
from finetune.search.places import Place, Seat, Step
from finetune.search.starts import Start

ARGUMENTS = ["-m", "finetune", "train", "trials/3/recipe.toml"]
RANK_NAMES = {"RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"}


def of(place: Place, environment: dict[str, str] | None = None) -> list[Start]:
    return starts.of(place, ARGUMENTS, Path("trials/3"), Path("cache"), environment or {})


def test_one_rank_is_a_plain_command() -> None:
    (place,) = places.local_places(1, 1, [], 4)
    (found,) = of(place, {"HOME": "/h", "RANK": "5", "OMP_NUM_THREADS": "7"})
    assert found.line == (sys.executable, *ARGUMENTS)
    assert found.environment["HOME"] == "/h"
    assert found.environment["OMP_NUM_THREADS"] == "7"  # what the user has set stays
    assert not RANK_NAMES & set(found.environment)
    assert found.environment["TORCH_EXTENSIONS_DIR"].endswith("cache/place-0/torch_extensions")
    assert "CUDA_VISIBLE_DEVICES" not in found.environment
    assert of(place)[0].environment["OMP_NUM_THREADS"] == "4"


def test_ranks_of_a_trial_meet_and_see_the_gpus_of_the_trial_only() -> None:
    _, place = places.local_places(4, 2, ["0", "2", "4", "6"], 16)
    first, second = of(place, {"CUDA_VISIBLE_DEVICES": "0,2,4,6"})
    for found in (first, second):
        assert found.environment["CUDA_VISIBLE_DEVICES"] == "4,6"
        assert found.environment["WORLD_SIZE"] == "2"
        assert found.environment["MASTER_ADDR"] == "127.0.0.1"
    assert first.environment["MASTER_PORT"] == second.environment["MASTER_PORT"]
    assert [found.environment["LOCAL_RANK"] for found in (first, second)] == ["0", "1"]
    assert [found.environment["RANK"] for found in (first, second)] == ["0", "1"]


def test_ranks_without_gpus_are_told_apart() -> None:
    (place,) = places.local_places(2, 1, [], 4)
    assert [found.environment["LOCAL_RANK"] for found in of(place)] == ["0", "1"]


def test_hosts_are_reached_by_ssh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".deepspeed_env").write_text("# net\nGLOO_SOCKET_IFNAME=eth 0\n")
    seats = (Seat("node-01", "3"), Seat("node-02", "0"), Seat("node-02", "1"))
    last = of(Place(1, "hosts", 8, seats), {"SECRET": "x"})[2]
    assert last.line[:4] == ("ssh", "-o", "BatchMode=yes", "node-02")
    script = last.line[4]
    assert "SECRET" not in script
    words = shlex.split(script)
    assert words[:2] == ["cd", str(tmp_path)]
    for wanted in (
        "RANK=2", "WORLD_SIZE=3", "LOCAL_RANK=1", "LOCAL_WORLD_SIZE=2", "MASTER_ADDR=node-01",
        "CUDA_VISIBLE_DEVICES=0,1", "OMP_NUM_THREADS=8", "GLOO_SOCKET_IFNAME=eth 0",
    ):  # fmt: skip
        assert wanted in words
    assert words[-5:] == [sys.executable, *ARGUMENTS]
    pid = f"{tmp_path}/trials/3/2.pid"
    assert last.stop_line == (*last.line[:4], f"kill -TERM $(cat {pid})")
    assert last.kill_line == (*last.line[:4], f"kill -KILL $(cat {pid})")


def test_the_remote_script_becomes_the_process_it_writes_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    place = Place(0, "host", 1, (Seat("node-01", "0"),))
    program = ["-c", "import os; print(os.getpid(), os.environ['RANK'])"]
    (found,) = starts.of(place, program, tmp_path, tmp_path / "cache", {})
    done = subprocess.run(["sh", "-c", found.line[4]], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [(tmp_path / "0.pid").read_text().strip(), "0"]


def test_a_single_rank_on_a_host_is_a_rank_too() -> None:
    """Else it would look for a GPU or an address of its own."""
    (found,) = of(Place(0, "host", 1, (Seat("node-01", "2"),)))
    assert {"RANK=0", "WORLD_SIZE=1", "MASTER_ADDR=node-01"} <= set(shlex.split(found.line[4]))


def test_a_step_of_an_allocation() -> None:
    step = Step(nodes=2, tasks=8, cpus_per_task=6, gpus_per_node=4)
    (found,) = of(Place(1, "two nodes", 6, step=step), {"SLURM_JOB_ID": "77"})
    assert found.line[:9] == (
        "srun", "--nodes=2", "--ntasks=8", "--exclusive", "--mem=0", "--cpus-per-task=6",
        "--gpus-per-node=4", "--kill-on-bad-exit=1", "bash",
    )  # fmt: skip
    assert found.line[-5:] == (sys.executable, *ARGUMENTS)
    assert found.is_step
    assert found.environment["SLURM_JOB_ID"] == "77"
    plain = Step(nodes=1, tasks=1, cpus_per_task=None, gpus_per_node=None)
    (other,) = of(Place(0, "a node", 1, step=plain))
    assert "--cpus-per-task" not in " ".join(other.line)
    assert other.environment["MASTER_PORT"] != found.environment["MASTER_PORT"]


@pytest.mark.parametrize(("code", "seen"), [(0, 0), (75, 0), (3, 3)])
def test_a_task_that_saved_is_no_failure_of_its_step(tmp_path: Path, code: int, seen: int) -> None:
    scontrol = tmp_path / "scontrol"
    scontrol.write_text("#!/bin/sh\nprintf 'n1\\nn2\\n'\n")
    scontrol.chmod(0o755)
    program = ["bash", "-c", starts.STEP, "trial", "sh", "-c", f'echo "$MASTER_ADDR"; exit {code}']
    done = subprocess.run(
        program,
        env={"PATH": f"{tmp_path}:/usr/bin:/bin", "SLURM_STEP_NODELIST": "n[1-2]"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (seen, "n1\n")
