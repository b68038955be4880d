"""What SLURM says of jobs, and what the status makes of it."""

import os
import time
from pathlib import Path

import pytest

from launch import journal, results, status
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


def test_elements_of_an_array_are_one_job(asked: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    for lines, state, told in (
        ("103_[0,2-4%2]|PENDING|Dependency\n", "PENDING", "103 4 pending (Dependency)"),
        ("103_[2-4]|PENDING|Resources\n103_0|COMPLETED|None\n103_1|RUNNING|None\n", "RUNNING",
         "103 1 running, 3 pending, 1 completed"),
        ("103_0|COMPLETED|None\n103_1|OUT_OF_MEMORY|None\n", "OUT_OF_MEMORY",
         "103 1 out of memory, 1 completed"),
        ("103_0|COMPLETED|None\n103_1|COMPLETED|None\n", "COMPLETED", "103 2 completed"),
    ):  # fmt: skip
        monkeypatch.setenv("QUEUE", lines.replace("%", "%%").replace("\n", "\\n"))
        found = jobs.states({"finetune": "103"})["finetune"]
        assert (found.state, str(found)) == (state, told)
        assert found.is_active == (state in ("PENDING", "RUNNING"))
    (asked.folder / "bin/sacct").write_text(
        "#!/usr/bin/env bash\nprintf '103_0|COMPLETED\\n103_1|TIMEOUT\\n103_1|COMPLETED\\n'\n"
    )
    (asked.folder / "bin/sacct").chmod(0o755)
    monkeypatch.setenv("QUEUE", "")
    found = jobs.states({"finetune": "103"})["finetune"]
    assert found == Job("103", "COMPLETED", elements={0: "COMPLETED", 1: "COMPLETED"})
    assert str(found.element(1)) == "103_1 completed"
    assert found.element(None).state == jobs.FORGOTTEN


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


def test_tasks_of_an_array_have_states_of_their_own(
    asked: StandIn,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    output = runs.prepared(tmp_path / "run")
    text = (output / "recipe.toml").read_text()
    table = text[text.index("[tasks.") :]
    (output / "recipe.toml").write_text(text + table.replace("[tasks.", "[tasks.b"))
    first, second = results.task_names(output)
    runs.write(output / "slurm/jobs.json", {"finetune": "103"})
    runs.write(output / "slurm/finetune.sbatch", f"tasks=({second} {first})\n")
    monkeypatch.setenv("QUEUE", "103_1|PENDING|Resources\\n103_0|OUT_OF_MEMORY|None\\n")
    shown_lines = shown(output, capsys).splitlines()
    rows = {line.split()[2]: " ".join(line.split()) for line in shown_lines if " finetune " in line}
    assert "to do" in rows[first]
    assert "failed" in rows[second]
    assert rows[first].endswith("103_1 pending (Resources) │")
    assert rows[second].endswith("103_0 out of memory │")

    monkeypatch.setenv("QUEUE", "103_1|COMPLETED|None\\n103_0|OUT_OF_MEMORY|None\\n")
    text = shown(output, capsys)
    log = output / "logs/slurm/finetune-103_*.log"
    assert f"SLURM job 103 1 out of memory, 1 completed, its output is in {log}" in text


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
