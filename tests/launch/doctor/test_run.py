"""Faults of what one run needs: its recipe, its folder, its devices."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.launch.doctor.examined import ROOT, doctor, recipe


def test_a_batch_that_the_ranks_cannot_share(tmp_path: Path) -> None:
    recipe(tmp_path, tmp_path / "runs", ("ranks = 2", "ranks = 3"))
    found = doctor("small.toml", folder=tmp_path, skip=("leftovers", "cores"))
    line = found.only("fault", "recipe")
    assert line.what == (
        "train.global_batch_size (8) is no multiple of micro_batch_size x ranks = 2 x 3 = 6"
    )
    assert line.fix == "`train.global_batch_size=6`"


def test_a_ds_config_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "own.json").write_text('{"zero_optimization": {"stage": 3}, "bf16": {}}')
    changed = "[launch]", '[engine]\nds_config = "own.json"\n\n[launch]'
    recipe(tmp_path, tmp_path / "runs", changed)
    line = doctor("small.toml", folder=tmp_path).only("fault", "recipe")
    assert "engine.ds_config own.json sets bf16, which the recipe decides" in line.what


def test_a_recipe_with_an_error_is_told_as_everywhere(tmp_path: Path) -> None:
    recipe(tmp_path, tmp_path / "runs", ("ranks = 2", "rank = 2"))
    done = subprocess.run(
        [sys.executable, "-m", "launch", "doctor", "small.toml"],
        cwd=tmp_path, capture_output=True, text=True, timeout=180,
    )  # fmt: skip
    assert done.returncode == 2
    assert "launch.rank (line 20): unknown key; did you mean `ranks`?" in done.stderr


def test_a_check_that_does_not_exist(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "launch", "doctor", "--only", "disks"],
        cwd=tmp_path, capture_output=True, text=True, timeout=180,
    )  # fmt: skip
    assert done.returncode == 2
    assert "no check is called disks; there are slurm, recipe, reach, " in done.stderr


HOLD = """
import sys, time
from pathlib import Path
from runtime import run_lock
lock = run_lock.acquire(run_lock.path_of(Path(sys.argv[1]), "pretrain"), "pretrain")
print("held", flush=True)
time.sleep(600)
"""


def test_another_job_uses_the_run_and_then_dies(tmp_path: Path) -> None:
    """A real owner, alive, and after it was killed."""
    recipe(tmp_path, tmp_path / "runs")
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, tmp_path / "runs"], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        line = doctor("small.toml", folder=tmp_path).only("fault", "run_locks")
        assert f"another job uses this run: process {holder.pid} of " in line.what
        assert line.fix == "wait for it, stop it, or set another `output`"
    finally:
        holder.send_signal(signal.SIGKILL)
        holder.communicate()
    line = doctor("small.toml", folder=tmp_path).only("warning", "run_locks")
    assert f"a job that is gone has left its lock: process {holder.pid} of " in line.what
    assert f"`rm {tmp_path}/runs/locks/pretrain.json`" in line.fix


@pytest.mark.parametrize("name", ["finetune", "finetune-mood"])
def test_a_lock_that_cannot_be_read(name: str, tmp_path: Path) -> None:
    recipe(tmp_path, tmp_path / "runs")
    lock = tmp_path / "runs" / "locks" / f"{name}.json"
    lock.parent.mkdir(parents=True)
    lock.write_text('{"token": ')
    line = doctor("small.toml", folder=tmp_path).only("fault", "run_locks")
    assert line.where == str(lock)
    assert line.fix == f"`rm {lock}` if no job runs there"


def checkpoint(folder: Path, step: int) -> Path:
    """One with a file of 1000 bytes, as far as the doctor looks at it."""
    path = folder / "runs" / "pretrain" / "checkpoints" / f"step-{step:08d}"
    path.mkdir(parents=True)
    (path / "rng-00000.pt").write_bytes(bytes(1000))
    files = {"rng-00000.pt": {"bytes": 1000, "hash": "xxh3:0"}}
    (path / "MANIFEST.json").write_text(json.dumps({"files": files}))
    return path


def test_a_checkpoint_cut_short(tmp_path: Path) -> None:
    recipe(tmp_path, tmp_path / "runs")
    checkpoint(tmp_path, 10)
    newest = checkpoint(tmp_path, 20)
    assert doctor("small.toml", folder=tmp_path).lines == []
    os.truncate(newest / "rng-00000.pt", 900)
    line = doctor("small.toml", folder=tmp_path).only("fault", "checkpoints")
    assert line.what == f"{newest}: rng-00000.pt has 900 bytes, its manifest says 1000"
    assert "the run will take the checkpoint before it" in line.fix


def gpus(folder: Path, *lines: str, exit_code: int = 0) -> dict[str, str]:
    """A program that answers as `nvidia-smi` does on a machine with these devices."""
    program = folder / "bin" / "nvidia-smi"
    program.parent.mkdir()
    text = "\n".join(lines)
    program.write_text(f"#!/bin/sh\ncat <<'END'\n{text}\nEND\nexit {exit_code}\n")
    program.chmod(0o755)
    return {"PATH": f"{program.parent}:{os.environ['PATH']}"}


GPU = "{}, GPU-{}, NVIDIA H100 80GB HBM3, 550.54.15, 81559, {}, {}, Default"


def test_a_build_of_torch_without_the_devices(tmp_path: Path) -> None:
    """There are devices, and torch, which is real, uses none."""
    if Path("/dev/nvidiactl").exists():
        pytest.skip("torch can use the devices of this machine")
    environment = gpus(tmp_path, GPU.format(0, "aa", 3, 0))
    line = doctor(folder=tmp_path, environment=environment).only("fault", "devices")
    assert line.what.startswith("torch sees 0 of 1 devices; it is built for ")
    assert line.what.endswith("the driver is 550.54.15")
    assert "install the torch build" in line.fix


def test_a_driver_that_does_not_answer(tmp_path: Path) -> None:
    text = "Failed to initialize NVML: Driver/library version mismatch"
    environment = gpus(tmp_path, text, exit_code=18)
    line = doctor(folder=tmp_path, environment=environment).only("fault", "devices")
    assert line.what == f"its GPUs cannot be used: nvidia-smi: {text}"
    assert "reboot it after an update of the driver" in line.fix
