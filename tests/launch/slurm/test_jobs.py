"""What SLURM says of jobs, and what the status makes of it."""

import os
import time
from pathlib import Path

import pytest

from launch import journal, status
from launch.journal import Entry, Journal
from launch.slurm import jobs
from launch.slurm.jobs import Job
from runtime.errors import DataError
from tests.launch import runs
from tests.launch.slurm.conftest import StandIn

IDS = {"data_prep": "101", "pretrain": "102", "finetune": "103"}
SACCT = """#!/usr/bin/env bash
printf '101|TIMEOUT\\n101|COMPLETED\\n103|CANCELLED by 1000\\n'
"""


@pytest.fixture
def asked(stand_in: StandIn, monkeypatch: pytest.MonkeyPatch) -> StandIn:
    for name in ("PATH", "CALLS"):
        monkeypatch.setenv(name, stand_in.environment[name])
    monkeypatch.setenv("QUEUE", "102|RUNNING|None\\n103|PENDING|Dependency\\n")
    return stand_in


def test_squeue_then_sacct(asked: StandIn) -> None:
    assert jobs.states(IDS) == {
        "data_prep": Job("101", jobs.FORGOTTEN),
        "pretrain": Job("102", "RUNNING"),
        "finetune": Job("103", "PENDING", "Dependency"),
    }
    (asked.folder / "bin/sacct").write_text(SACCT)
    (asked.folder / "bin/sacct").chmod(0o755)
    assert jobs.states(IDS)["data_prep"] == Job("101", "COMPLETED")  # after its last start
    assert jobs.states(IDS)["finetune"].state == "PENDING"  # squeue knows better


def test_accounts_of_jobs_that_have_left_the_queue(
    asked: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    (asked.folder / "bin/sacct").write_text(SACCT)
    (asked.folder / "bin/sacct").chmod(0o755)
    monkeypatch.setenv("QUEUE", "")
    assert [str(job) for job in jobs.states(IDS).values()] == [
        *("101 completed", "102 no longer known", "103 cancelled")
    ]


def test_a_machine_without_slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    found = jobs.states({"pretrain": "102"})
    assert str(found["pretrain"]) == "102 state unknown: SLURM does not answer"
    assert not found["pretrain"].is_active
    assert jobs.states({}) == {}


@pytest.mark.parametrize("text", ['{"pretrain": "x"}', '{"pretrain": "1; rm"}', "[]", '"a"', "{"])
def test_a_damaged_file_is_named(tmp_path: Path, text: str) -> None:
    runs.write(tmp_path / "slurm/jobs.json", text)
    with pytest.raises(DataError, match=r"jobs\.json"):
        jobs.noted(tmp_path)


def shown(output: Path, capsys: pytest.CaptureFixture[str]) -> str:
    status.show(output)
    return capsys.readouterr().out


def test_jobs_stand_beside_the_stages(
    asked: StandIn, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = runs.prepared(tmp_path / "run")
    assert "SLURM" not in shown(output, capsys)
    runs.write(output / "slurm/jobs.json", IDS | {"evaluate": "104"})
    runs.write(output / "logs/slurm/pretrain-102.log", "step 3/9  loss 1.0  eta 5m\n")
    runs.lines(output / "pretrain/metrics.jsonl", [{"step": 2, "time": 1.0, "loss/train": 1.0}])
    lines = shown(output, capsys).splitlines()
    rows = {line.split()[1]: " ".join(line.split()) for line in lines if line.startswith("│")}
    assert "done" in rows["data_prep"]
    assert "101 no longer known" in rows["data_prep"]
    assert "running │ 3/9" in rows["pretrain"]
    assert rows["pretrain"].endswith("102 running │")
    assert "to do" in rows["finetune"]
    assert rows["finetune"].endswith("103 pending (Dependency) │")
    assert rows["evaluate"].startswith("│ evaluate │ to do")


def test_a_job_that_failed_names_its_log(
    asked: StandIn,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    output = runs.prepared(tmp_path / "run")
    runs.write(output / "slurm/jobs.json", IDS)
    monkeypatch.setenv("QUEUE", "102|OUT_OF_MEMORY|None\\n103|CANCELLED|Dependency\\n")
    text = shown(output, capsys)
    log = output / "logs/slurm/pretrain-102.log"
    assert f"pretrain: SLURM job 102 out of memory, its output is in {log}" in text
    assert "finetune: SLURM job 103 cancelled" in text

    # Then somebody runs the stage on this machine.
    os.utime(output / "slurm/jobs.json", (1e9, 1e9))
    entry = Entry("running", os.getpid(), time.time())
    journal.write(output, Journal("small.toml", [], stages={"pretrain": entry}))
    text = shown(output, capsys)
    assert "SLURM job 102" not in text
    assert "running" in text
