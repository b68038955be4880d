"""`textmill status RUN`: how far each stage of a run is, from the files it has written, and what
SLURM says of its jobs where it was submitted."""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console
from rich.table import Table

from launch import journal, results
from launch.slurm import batch_files, jobs
from launch.slurm.batch_files import EVALUATE
from launch.slurm.jobs import Job
from runtime import stages
from runtime.readable import duration

LAST_LINES = 3
WIDTH = 120  # where there is no terminal to measure
WAITING = ("PENDING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT")  # jobs


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    name: str
    state: str
    folder: Path  # of its metrics.jsonl
    step: str = ""
    loss: str = ""
    valid: str = ""
    score: str = ""
    eta: str = ""
    age: str = ""  # since the last metrics
    job: str = ""  # of SLURM, and its state


def show(run: Path) -> None:
    """Print the table and the last metrics of what is running."""
    output = results.output_folder(run)
    notes = journal.read(output)
    queued = standing(jobs.of_run(output), jobs.submitted_at(output), notes)
    wanted = results.wanted_stages(output)
    rows = [row for stage in wanted for row in stage_rows(output, stage, notes, queued.get(stage))]
    if EVALUATE in queued:
        rows.append(report_row(output, queued[EVALUATE]))
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=WIDTH)
    table = Table(title=str(output), title_justify="left")
    columns = ["stage", "state", "step", "loss", "valid", "score", "eta", "last metrics"]
    for column in [*columns, "SLURM job"] if queued else columns:
        table.add_column(column, no_wrap=True)
    for row in rows:
        shown = (row.name, row.state, row.step, row.loss, row.valid, row.score, row.eta, row.age)
        table.add_row(*shown, *([row.job] if queued else []))
    console.print(table)
    if notes:
        print_endings(console, output, notes, queued)
    print_lost_jobs(console, output, queued)
    for row in rows:
        for line in results.metrics(row.folder)[-LAST_LINES:] if row.state == "running" else []:
            console.print(json.dumps(line), soft_wrap=True, markup=False)


def print_endings(
    console: Console, output: Path, notes: journal.Journal, queued: Mapping[str, Job]
) -> None:
    """Say which stages ended before they were done, and where their output is."""
    for stage, entry in notes.stages.items():
        state = None if stage in queued else journal.state_of(notes, stage)
        if state in ("failed", "stopped", "lost"):
            code = "" if entry.exit_code is None else f" with exit code {entry.exit_code}"
            log = output / "logs" / f"{stage}.log"
            console.print(f"{stage}: {state}{code}, its output is in {log}", soft_wrap=True)


def standing(
    queued: Mapping[str, Job], submitted: float, notes: journal.Journal | None
) -> dict[str, Job]:
    """The jobs that no later start on this machine has taken the place of."""
    started = {stage: entry.started for stage, entry in notes.stages.items()} if notes else {}
    return {
        stage: job
        for stage, job in queued.items()
        if job.is_active or started.get(stage, 0.0) <= submitted
    }


def print_lost_jobs(console: Console, output: Path, queued: Mapping[str, Job]) -> None:
    """Say which jobs ended before they were done, and where their output is."""
    for stage, job in queued.items():
        if state_of_job(job) in ("failed", "stopped"):
            log = job_log(output, stage, job)
            console.print(f"{stage}: SLURM job {job}, its output is in {log}", soft_wrap=True)


def job_log(output: Path, stage: str, job: Job) -> Path:
    """What a job prints, or an element of an array; of an array, the pattern of all."""
    return output / "logs" / "slurm" / f"{stage}-{job.id}{'_*' if job.elements else ''}.log"


def state_of_job(job: Job) -> str | None:
    """A job's state in the words of the table; None if it says nothing about the stage."""
    if job.state in (*WAITING, jobs.FORGOTTEN, jobs.UNKNOWN):
        return None
    if job.is_active:
        return "running"
    return {"COMPLETED": "done", "CANCELLED": "stopped"}.get(job.state, "failed")


def report_row(output: Path, job: Job) -> Row:
    """The row of the last job, which writes the page about the run."""
    state = state_of_job(job) or ("done" if (output / results.PAGE).is_file() else "to do")
    return Row(EVALUATE, state, output, job=str(job))


def stage_rows(
    output: Path, stage: str, notes: journal.Journal | None, job: Job | None = None
) -> list[Row]:
    """One row for a stage; one a task for fine-tuning, which takes the tasks in their order."""
    rows = rows_of(output, stage, notes, job)
    return rows if job is None else [replace(row, job=row.job or str(job)) for row in rows]


def rows_of(output: Path, stage: str, notes: journal.Journal | None, job: Job | None) -> list[Row]:
    """What files, the journal and the stage's job of SLURM say together."""
    folder = stages.folder(output, stage)
    log = output / "logs" / f"{stage}.log" if job is None else job_log(output, stage, job)
    if job is not None:  # the journal is about a start on this machine
        notes = None
    noted = state_of_job(job) if job else journal.state_of(notes, stage) if notes else None
    if stage != "finetune":
        manifest = folder / stages.MANIFEST
        entry = notes.stages.get(stage) if notes else None
        if entry and manifest.is_file() and manifest.stat().st_mtime >= entry.started:
            noted = "done"
        return [measured(stage, folder, state_of(folder, noted), log)]
    found = []
    places = {name: i for i, name in enumerate(batch_files.tasks_of(output / "slurm"))}
    element: Job | None = None
    for name in results.task_names(output):
        if job is not None and job.elements:
            element = job.element(places.get(name))
            noted = state_of_job(element)
            log = job_log(output, stage, element)
        state = state_of(folder / name, noted)
        if state not in ("done", "to do"):
            noted = None  # it is about this task; the ones after it have not been reached
        source = results.newest_run(folder / name)
        is_control = state != "done" and source.parent.name == "control"
        label = f"{stage} {name}" + (" (control)" if is_control else "")
        row = measured(label, source, state, log)
        found.append(row if element is None else replace(row, job=str(element)))
    return found


def state_of(folder: Path, noted: str | None) -> str:
    """What a stage's folder and the journal say together.

    The manifest is written last: one that is older than the metrics is from the run before.
    """
    manifest = folder / stages.MANIFEST
    written = results.newest_run(folder) / results.METRICS
    if manifest.is_file():
        has_later = written.is_file() and written.stat().st_mtime > manifest.stat().st_mtime
        if noted in (None, "done") or (written.is_file() and not has_later):
            return "done"
    if noted is None or noted == "done":
        return "started" if written.is_file() else "to do"
    return noted


def measured(name: str, folder: Path, state: str, log: Path) -> Row:
    """A row with the newest numbers of metrics.jsonl."""
    rows = results.metrics(folder)
    if not rows:
        return Row(name, state, folder)
    step, eta = str(rows[-1]["step"]), ""
    if state == "running" and (found := results.progress(log)):
        step, eta = f"{found.step}/{found.total}", found.eta or ""
    scores = [tag for tag in ("eval/f1", "eval/accuracy") if results.last(rows, tag) is not None]
    return Row(
        name,
        state,
        folder,
        step=step,
        loss=number(results.last(rows, "loss/train")),
        valid=number(results.last(rows, "loss/valid")),
        score=f"{scores[0][5:]} {number(results.last(rows, scores[0]))}" if scores else "",
        eta=eta,
        age=f"{duration(max(0.0, time.time() - rows[-1]['time']))} ago",
    )


def number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"
