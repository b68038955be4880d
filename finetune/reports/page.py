"""report.html: one page about a task, without scripts and without other files.

It shows what report.json, metrics.jsonl and run.json of the folder say, and nothing else, so it can
be written again from them. A part that was not measured is left out.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jinja2

from finetune.reports import drawing, report_tables, tables
from finetune.reports.tables import Table
from finetune.scores import confusion
from runtime import provenance
from runtime.tracking import METRICS

PAGE = "report.html"
TEMPLATE = Path(__file__).with_name("page.html.jinja")
MOST_MISTAKES = 20  # confusions in the table
MOST_EXAMPLES = 20  # of one kind of error
SHOWN = ("counts", "examples", "calibration", "confused")  # of an analysis, by themselves


@dataclass(frozen=True)
class Picture:
    """A drawing and what it shows."""

    title: str
    svg: str


@dataclass(frozen=True)
class Split:
    """One scored file."""

    name: str
    labels: list[Table]
    texts: dict[str, str]  # tables that came as text
    pictures: list[Picture]
    mistakes: list[tuple[str, str, int]]
    errors: list[Table]
    examples: dict[str, list[Mapping[str, Any]]]


@dataclass(frozen=True)
class Task:
    """What the page shows of one task."""

    report: Mapping[str, Any]
    scores: Table
    metrics: Table
    notes: list[str]
    splits: list[Split]
    curves: list[Picture]
    data: Table
    runs: Table
    decoding: list[Table]
    augmentation: list[Table] = field(default_factory=list)
    exports: list[Table] = field(default_factory=list)


def write(folder: Path) -> Path:
    """Write the page of a task's folder and return its path."""
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {
        "shown": tables.shown, "words": tables.words, "score": report_tables.score
    }  # fmt: skip
    template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    path = folder / PAGE
    provenance.write_text(path, template.render(content(folder)))
    return path


def content(folder: Path) -> dict[str, Any]:
    """Everything the template shows."""
    report = provenance.read_json(folder / "report.json")
    # A task of a multi-task model was started with the others, in the folder above.
    run = next((each for each in (folder, folder.parent) if (each / "run.json").is_file()), folder)
    record, recipe = run / "run.json", run / "recipe.toml"
    starts = provenance.read_json(record)["starts"] if record.is_file() else []
    return {
        "task": task(report, folder),
        "start": starts[-1] if starts else None,
        "recipe": recipe.read_text(encoding="utf-8") if recipe.is_file() else "",
    }


def task(report: Mapping[str, Any], folder: Path) -> Task:
    """One task of the page; `folder` holds its training runs."""
    return Task(
        report,
        report_tables.scores(report),
        report_tables.metrics(report),
        report_tables.notes(report),
        [split_of(report, split) for split in reversed(report_tables.splits_of(report))],
        curves(report, folder),
        report_tables.data(report),
        report_tables.runs(report),
        report_tables.decoding(report),
        tables.of(report["augmentation"]),
        report_tables.exports(report),
    )


def split_of(report: Mapping[str, Any], split: str) -> Split:
    """What the predictions of a split show."""
    found = report[split]
    analysis, final = found["analysis"], found["final"]
    matrix = confusion.from_json(found["confusion"]) if found["confusion"] else None
    examples = {
        name: rows[:MOST_EXAMPLES] for name, rows in analysis.get("examples", {}).items() if rows
    }
    rest = {name: value for name, value in analysis.items() if name not in SHOWN}
    if "by_type" in rest:
        rest = {"errors_by_type": rest.pop("by_type"), **rest}
    rest |= {k: v for k, v in final.items() if k != "seqeval" and not isinstance(v, str)}
    counts = tables.of({"": analysis["counts"]}, "errors") if analysis.get("counts") else []
    return Split(
        split,
        [*report_tables.by_label(found["report"]), *report_tables.modes(final)],
        {name: text for name, text in final.items() if isinstance(text, str)},
        pictures(found, matrix),
        matrix.mistakes(MOST_MISTAKES) if matrix else [],
        [*counts, *tables.of(rest)],
        examples,
    )


def pictures(found: Mapping[str, Any], matrix: confusion.Confusion | None) -> list[Picture]:
    drawn = []
    if matrix is not None and matrix.counts.any():
        drawn.append(Picture("Confusion", drawing.svg(drawing.confusion(matrix))))
    if found["curves"]:
        picture = drawing.svg(drawing.precision_recall(found["curves"]))
        drawn.append(Picture("Precision and recall", picture))
    calibration = found["analysis"].get("calibration") or {}
    if any(each["rows"] for each in calibration.get("bins", ())):
        title = "Reliability"
        if "ece" in calibration:
            title += f": expected calibration error {calibration['ece']:.4f}"
        drawn.append(Picture(title, drawing.svg(drawing.reliability(calibration["bins"]))))
    return drawn


def curves(report: Mapping[str, Any], folder: Path) -> list[Picture]:
    """The metric on valid and the losses of every run, the control's among them.

    The runs of a task that was trained together with others lie one folder up.
    """
    task, metric = report["task"], report["metric"]
    shared = report.get("together_with") is not None
    runs = named(folder.parent if shared else folder, "")
    runs |= named(folder / "control", "without pretraining, ")
    runs |= named(folder / "alone", "alone, ")
    own = (f"eval/{metric}", "loss/train", "loss/valid")
    among = (f"eval/{task}/{metric}", f"loss_by_task/{task}", f"valid_loss_by_task/{task}")
    titles = (f"{tables.words(metric)} on the validation rows", "Training loss", "Validation loss")
    drawn = []
    for title, unit, *tags in zip(
        titles, (metric, "nats a target", "nats a target"), own, among, strict=True
    ):
        found = {
            name: curve(path / METRICS, tags[shared and path.parent == folder.parent])
            for name, path in runs.items()
        }
        found = {name: points for name, points in found.items() if len(points[0]) > 1}
        if found:
            drawn.append(Picture(title, drawing.svg(drawing.over_steps(found, unit))))
    return drawn


def named(folder: Path, prefix: str) -> dict[str, Path]:
    """The training runs in a folder, by what a picture calls them."""
    return {
        f"{prefix}{path.name.replace('-', ' ')}": path for path in sorted(folder.glob("seed-*"))
    }


def curve(path: Path, tag: str) -> tuple[list[float], list[float]]:
    """Steps and finite values of a tag in metrics.jsonl."""
    if not path.is_file():
        return [], []
    records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    points = [(record["step"], float(record[tag])) for record in records if tag in record]
    points = [(step, value) for step, value in points if math.isfinite(value)]
    return [step for step, _ in points], [value for _, value in points]
