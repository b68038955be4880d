"""What the stages of a run have written, as far as it exists: read by status, report and summary.

Nothing here is computed anew and nothing is filled in: a file that is not there yet is None or an
empty list, a number that was not written does not appear.
"""

import json
import math
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runtime import provenance, stages
from runtime.errors import DataError

STEP_LINE = re.compile(r"step +(?P<step>\d+)/(?P<total>\d+)(?:.*\beta (?P<eta>\w+))?")
TAIL_BYTES = 1 << 16
METRICS = "metrics.jsonl"
REPORT = "report.json"
PAGE = "report.html"  # about the whole run
Metrics = Mapping[str, Any]  # one line of metrics.jsonl: step, time, tag: value


@dataclass(frozen=True)
class Curve:
    """The values of one tag over the steps."""

    steps: list[int]
    values: list[float]


@dataclass(frozen=True)
class Progress:
    """The last console line of a stage that is training."""

    step: int
    total: int
    eta: str | None


@dataclass(frozen=True)
class Score:
    """One number of a task on one split, and what it has to be compared with."""

    split: str
    ours: float  # of the exported model
    interval: tuple[float, float] | None  # 95 %, from resampled rows
    seeds: Mapping[str, Any] | None  # mean, deviation and count over the training runs
    control: float | None  # the same model without pretraining: mean over its training runs
    baselines: dict[str, float]  # predictors that need no model
    contamination: str  # examples of the split in the pretraining text
    leaks: str  # examples of the split in the training rows and in the shards


@dataclass(frozen=True)
class Task:
    """A fine-tuned task: its report and the numbers of the metric it was judged by."""

    name: str  # of a task of a multi-task model: MODEL/TASK
    folder: Path
    metric: str
    scores: list[Score]
    report: Mapping[str, Any]


def output_folder(run: Path) -> Path:
    """The folder of a run. Raises DataError if there is no run in it."""
    known = ("launch.json", "recipe.toml", "data", "pretrain", "finetune")
    if run.is_file():
        raise DataError(f"{run} is a file; name the output folder of a run (`output` in a recipe)")
    if not any((run / name).exists() for name in known):
        raise DataError(
            f"{run} holds no run: name the folder that `output` in the recipe says, "
            "for example runs/quickstart"
        )
    return run


def recipe_text(output: Path) -> str:
    """The resolved recipe of the newest start: of the whole run, else of a stage."""
    for path in (output / "recipe.toml", *sorted(output.glob("*/recipe.toml"), reverse=True)):
        if path.is_file():
            return path.read_text(encoding="utf-8")
    return ""


def recipe(output: Path) -> dict[str, Any]:
    """The tables of the resolved recipe."""
    return tomllib.loads(recipe_text(output))


def wanted_stages(output: Path) -> list[str]:
    """The stages the recipe has tables for, and those that have a folder."""
    tables = recipe(output)
    needed = {"data_prep": "sources", "pretrain": "model", "finetune": "tasks"}
    return [
        stage
        for stage in stages.STAGES
        if tables.get(needed[stage]) or stages.folder(output, stage).is_dir()
    ]


def task_names(output: Path) -> list[str]:
    """The models fine-tuning makes, in the order of the recipe: tasks, then several tasks together;
    then others that have a folder."""
    folder, tables = stages.folder(output, "finetune"), recipe(output)
    alone = [name for name, task in tables.get("tasks", {}).items() if task.get("alone", True)]
    present = sorted(path.parent.name for path in folder.glob("*/run.json"))
    return list(dict.fromkeys([*alone, *tables.get("multitask", {}), *present]))


def runs(folder: Path) -> list[Path]:
    """The folders of a model's training runs, one a seed, those of its control last."""
    return [*sorted(folder.glob("seed-*")), *sorted(folder.glob("control/seed-*"))]


def newest_run(folder: Path) -> Path:
    """The training run that wrote metrics last; the folder itself if none did."""
    written = [run for run in runs(folder) if (run / METRICS).is_file()]
    return max(written, key=lambda run: (run / METRICS).stat().st_mtime, default=folder)


def read(path: Path) -> dict[str, Any] | None:
    """A JSON object; None if the file is not there."""
    return dict(provenance.read_json(path)) if path.is_file() else None


def metrics(folder: Path) -> list[Metrics]:
    """The lines of metrics.jsonl; a last line that is being written is left out."""
    path = folder / METRICS
    if not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n")]


def starts(folder: Path) -> list[Mapping[str, Any]]:
    """What throughput.json says of every start of a stage, oldest first."""
    found = read(folder / "throughput.json")
    return list(found["starts"]) if found else []


def curve(rows: Sequence[Metrics], tag: str) -> Curve:
    """The finite values of a tag; "nan" and "inf" are gaps."""
    points = [(int(row["step"]), float(row[tag])) for row in rows if tag in row]
    points = [(step, value) for step, value in points if math.isfinite(value)]
    return Curve([step for step, _ in points], [value for _, value in points])


def tags(rows: Sequence[Metrics], group: str) -> list[str]:
    """The tags of a group, for example `loss_by_domain`, in the order they first appear."""
    return list(dict.fromkeys(tag for row in rows for tag in row if tag.startswith(f"{group}/")))


def last(rows: Sequence[Metrics], tag: str) -> float | None:
    """The newest value of a tag."""
    found = curve(rows, tag).values
    return found[-1] if found else None


def progress(log: Path) -> Progress | None:
    """The newest `step n/m ... eta t` of a stage's log, if it was started by `textmill run`."""
    if not log.is_file():
        return None
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - TAIL_BYTES))
        lines = file.read().decode("utf-8", errors="replace").splitlines()
    for line in reversed(lines):
        if found := STEP_LINE.match(line):
            return Progress(int(found["step"]), int(found["total"]), found["eta"])
    return None


def tasks(output: Path) -> list[Task]:
    """The tasks that have a report."""
    folder = stages.folder(output, "finetune")
    found = []
    for name in task_names(output):
        report = read(folder / name / REPORT) or {}
        together = [f"{name}/{task}" for task in report.get("training", {})]
        for each in together if "multitask" in report else [name]:
            of_task = read(folder / each / REPORT)
            if of_task is not None:
                scores = [score(split, entry) for split, entry in of_task["headline"].items()]
                found.append(Task(each, folder / each, of_task["metric"], scores, of_task))
    return found


def score(split: str, entry: Mapping[str, Any]) -> Score:
    """One entry of a report's headline."""
    interval, control = entry["interval"], entry["control"]
    return Score(
        split,
        entry["value"],
        (interval["low"], interval["high"]) if interval else None,
        entry["seeds"] if entry["seeds"]["count"] > 1 else None,
        control["mean"] if control else None,
        dict(entry["baselines"]),
        entry["contamination"],
        entry["leaks"] or "",
    )
