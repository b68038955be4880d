"""`textmill run --launcher slurm` with stand-ins for SLURM's commands: what is submitted, what is
refused, and that nothing is left half submitted."""

import json
import re
from pathlib import Path

import pytest

from launch import __main__
from launch.slurm import command
from runtime import stages
from tests.launch import runs
from tests.launch.slurm.conftest import StandIn
from tests.launch.slurm.recipes import TEXT

CHAIN = "--kill-on-invalid-dep=yes"


@pytest.fixture
def folder(stand_in: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a recipe, in which the commands are the stand-ins."""
    for name in ("PATH", "CALLS"):
        monkeypatch.setenv(name, stand_in.environment[name])
    (tmp_path / "recipe.toml").write_text(TEXT)
    (tmp_path / "wiki.jsonl").write_text('{"text": "a"}\n')
    (tmp_path / "mood.jsonl").write_text('{"text": "a", "label": "b"}\n')
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*words: str) -> int:
    return __main__.main(["run", "recipe.toml", *words, "--launcher", "slurm"])


def test_a_chain_is_submitted(
    folder: Path, stand_in: StandIn, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run() == 0
    files = folder / "runs/english/slurm"
    assert stand_in.calls == [
        f"sbatch --parsable {files}/data_prep.sbatch",
        f"sbatch --parsable --dependency=afterok:101 {CHAIN} {files}/pretrain.sbatch",
        f"sbatch --parsable --dependency=afterok:102 {CHAIN} {files}/finetune.sbatch",
        f"sbatch --parsable --dependency=afterok:103 {CHAIN} {files}/evaluate.sbatch",
    ]
    assert capsys.readouterr().out.splitlines() == [
        *("data_prep: job 101", "pretrain: job 102", "finetune: job 103", "evaluate: job 104"),
        f"logs: {folder}/runs/english/logs/slurm",
        "state: textmill status runs/english",
    ]
    noted = json.loads((files / "jobs.json").read_text())
    assert noted == {"data_prep": "101", "pretrain": "102", "finetune": "103", "evaluate": "104"}
    assert (folder / "runs/english/logs/slurm").is_dir()
    assert (folder / "runs/english/recipe.toml").is_file()


def test_overrides_reach_the_jobs(folder: Path) -> None:
    assert run("train.micro_batch_size=8", "slurm.nodes=2") == 0
    files = folder / "runs/english/slurm"
    assert "micro_batch_size = 8\n" in (files / "recipe.toml").read_text()
    assert "#SBATCH --nodes=2\n" in (files / "pretrain.sbatch").read_text()


def test_a_dry_run_shows_the_files_and_touches_nothing(
    folder: Path, stand_in: StandIn, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("--dry-run") == 0
    shown = capsys.readouterr().out
    for name in ("recipe.toml", "job.sh", "data_prep.sbatch", "evaluate.sbatch", "submit.sh"):
        assert f"\n--- {folder}/runs/english/slurm/{name}\n" in f"\n{shown}"
    assert "\n#SBATCH --job-name=english-pretrain\n" in shown
    assert stand_in.calls == []
    assert not (folder / "runs").exists()


def test_stages_that_are_up_to_date_are_not_submitted(
    folder: Path,
    stand_in: StandIn,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def planned(stage: str, recipe: object) -> stages.Plan:
        path = folder / "runs/english" / stage
        if stage != "finetune" or is_whole:
            runs.write(path / "manifest.json", {"inputs": "x"})
        return stages.Plan(stage, path, "x")

    is_whole = False
    monkeypatch.setattr("runtime.stages.plan", planned)
    runs.write(folder / "runs/english/slurm/pretrain.sbatch", "of an earlier day")
    assert run() == 0
    assert [re.sub(r".*/", "", call) for call in stand_in.calls] == [
        *("finetune.sbatch", "evaluate.sbatch")
    ]
    assert not (folder / "runs/english/slurm/pretrain.sbatch").exists()
    assert "pretrain: up to date" in capsys.readouterr().out
    is_whole = True
    assert run() == 0
    assert "nothing is submitted" in capsys.readouterr().out
    assert len(stand_in.calls) == 2


def test_a_stage_that_cannot_start_is_refused(
    folder: Path, stand_in: StandIn, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("model={}", "sources={}") == 2
    assert "pretrain cannot start: waits for shards" in capsys.readouterr().err
    elsewhere = (
        'tasks.mood={kind="classification", train="no.jsonl", valid="no.jsonl", encoder="a/b"}'
    )
    assert run(elsewhere) == 2
    assert "finetune.mood cannot start: waits for no.jsonl" in capsys.readouterr().err
    assert run("train.global_batch_size=96", "slurm.nodes=9") == 2
    error = capsys.readouterr().err
    assert "train.global_batch_size (96) must be a multiple of train.micro_batch_size x" in error
    assert "= 4 x 9 (slurm.nodes x ranks_per_node)" in error
    assert stand_in.calls == []


@pytest.mark.parametrize(("stage", "cancelled"), [("data_prep", ""), ("finetune", "101 102")])
def test_what_is_refused_leaves_nothing_in_the_queue(
    folder: Path,
    stand_in: StandIn,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    stage: str,
    cancelled: str,
) -> None:
    monkeypatch.setenv("REFUSED", stage)
    assert run() == 3
    error = capsys.readouterr().err
    assert error == (
        "textmill: DataError: nothing is submitted: Batch job submission failed: Invalid "
        f"partition name specified; the files are in {folder}/runs/english/slurm\n"
    )
    assert stand_in.calls[-1].startswith("scancel" if cancelled else "sbatch")
    assert [call for call in stand_in.calls if call.startswith("scancel")] == [
        f"scancel {ids}" for ids in [cancelled] if ids
    ]
    assert not (folder / "runs/english/slurm/jobs.json").exists()


def test_where_slurm_is_not_there(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "bin/sbatch").unlink()
    for name in ("bash", "mkdir", "mv", "rm"):
        (folder / "bin" / name).symlink_to(f"/usr/bin/{name}")
    monkeypatch.setenv("PATH", str(folder / "bin"))
    assert run() == 3
    assert capsys.readouterr().err == (
        "textmill: DataError: nothing is submitted: the command sbatch is not here; run this on a "
        f"machine of the cluster; the files are in {folder}/runs/english/slurm\n"
    )


def test_a_run_whose_jobs_are_in_the_queue_is_not_submitted_again(
    folder: Path,
    stand_in: StandIn,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run() == 0
    queue = "101|COMPLETED|None\\n102|RUNNING|None\\n103|PENDING|Dependency\\n"
    monkeypatch.setenv("QUEUE", queue)
    assert run() == 8
    assert (
        "jobs of this run are in the queue: pretrain 102 running, finetune 103 pending "
        "(Dependency); wait for them, or cancel them: scancel 102 103"
    ) in capsys.readouterr().err
    assert len(stand_in.calls) == 4
    monkeypatch.setenv("QUEUE", queue.replace("RUNNING", "FAILED").replace("PENDING", "CANCELLED"))
    assert run() == 0
    assert len(stand_in.calls) == 8


def test_nothing_is_submitted_while_squeue_does_not_answer(
    folder: Path, stand_in: StandIn, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run() == 0
    (folder / "bin/squeue").write_text("#!/usr/bin/env bash\nexit 1\n")
    assert run() == 3
    assert "squeue does not answer" in capsys.readouterr().err
    assert len(stand_in.calls) == 4


def test_options_of_a_job_around_it_are_left_out(
    folder: Path, stand_in: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the user's own defaults those stay which the recipe leaves open."""
    for name in ("SLURM_JOB_ID", "SLURM_NTASKS", "SBATCH_WAIT", "SBATCH_PARTITION"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("SBATCH_ACCOUNT", "team")
    monkeypatch.setenv("SLURM_CONF", "/etc/slurm.conf")
    assert run('slurm.partition="gpu"') == 0
    assert set((stand_in.folder / "calls.env").read_text().splitlines()) == {
        *("env SBATCH_ACCOUNT=team", "env SLURM_CONF=/etc/slurm.conf")
    }


def test_nothing_secret_is_shown(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_0123456789abcdef")
    assert run('slurm.setup=["export HF_TOKEN=${HF_TOKEN}"]', "--dry-run") == 0
    assert "hf_0123456789abcdef" not in capsys.readouterr().out


def test_reasons_of_sbatch_are_one_line() -> None:
    said = ["sbatch: error: Unable to open file x", "", "sbatch: error: y"]
    assert command.reason(said) == "Unable to open file x; y"
    assert command.reason([]) == "sbatch has failed"
