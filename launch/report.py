"""`textmill report RUN`: one HTML page about a run, without scripts and without other files.

Everything on it is read from what the stages wrote (see results.py). A part whose stage has not
run is left out; the list of stages at the top says so.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jinja2

from launch import charts, pretraining, results
from launch.pretraining import Chart
from runtime import provenance, stages
from runtime.readable import duration

PAGE = results.PAGE
TEMPLATE = Path(__file__).with_name("report.html.jinja")
COPIES = {
    "exact": "Equal documents",
    "near": "Near copies of documents",
    "lines": "Repeated lines",
}


def write(run: Path) -> Path:
    """Write RUN/report.html and return its path."""
    output = results.output_folder(run)
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["number"] = number
    environment.filters["percent"] = percent
    environment.filters["duration"] = duration
    template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    page = output / PAGE
    provenance.write_text(page, template.render(content(output)))
    return page


def content(output: Path) -> dict[str, Any]:
    """Everything the template shows."""
    recipe = results.recipe(output)
    folders = {stage: stages.folder(output, stage) for stage in stages.STAGES}
    start = newest_start(output)
    return {
        "name": recipe.get("name", output.name),
        "written": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "recipe": results.recipe_text(output),
        "data": data_content(results.read(folders["data_prep"] / stages.MANIFEST)),
        "pretrain": results.read(folders["pretrain"] / stages.MANIFEST),
        **pretraining.content(folders["pretrain"]),
        "tasks": [task_content(output, task) for task in results.tasks(output)],
        "waiting": [
            stage for stage in results.wanted_stages(output) if not is_written(output, stage)
        ],
        "start": start,
    }


def is_written(output: Path, stage: str) -> bool:
    folder = stages.folder(output, stage)
    if stage != "finetune":
        return (folder / stages.MANIFEST).is_file()
    return all((folder / name / "report.json").is_file() for name in results.task_names(output))


def newest_start(output: Path) -> dict[str, Any] | None:
    """How the latest stage was started: command, commit, versions, host."""
    starts = []
    for path in (*output.glob("*/run.json"), *output.glob("finetune/*/run.json")):
        found = provenance.read_json(path)
        starts += found.get("starts", [found])
    return max(starts, key=lambda start: str(start["started"])) if starts else None


def data_content(manifest: dict[str, Any] | None) -> dict[str, Any] | None:
    """What came in, what became of it, and which sources repeat each other."""
    if manifest is None:
        return None
    rows = []
    for name, source in manifest["sources"].items():
        documents, splits = source["documents"], source["splits"]
        rows.append(
            {
                "name": name,
                "domain": source["domain"],
                "read": documents["read"],
                "kept": documents["kept"],
                "lost": {**documents["dropped"], **documents["quarantined"]},
                "tokens": {split: found["num_tokens"] for split, found in splits.items()},
                "samples": sum(found["num_samples"] for found in splits.values()),
                "cut": sum(found["documents_cut"] for found in splits.values()),
                "padding": sum(found["padding_tokens"] for found in splits.values()),
            }
        )
    return {
        "sources": rows,
        "sequence_length": manifest["sequence_length"],
        "vocab_size": manifest["tokenizer"]["vocab_size"],
        "duplicates": {
            name: manifest["duplicates"][kind]
            for kind, name in COPIES.items()
            if any(any(row.values()) for row in manifest["duplicates"][kind].values())
        },
    }


def task_content(output: Path, task: results.Task) -> dict[str, Any]:
    """A task's scores and its training curves beside the control's; its own page has the rest."""
    rows = {run_name(run): results.metrics(run) for run in results.runs(task.folder)}
    pictures = []
    for title, key, unit in (
        (f"{task.metric} on the validation rows", f"eval/{task.metric}", task.metric),
        ("Training loss", "loss/train", "nats a target"),
    ):
        curves = {name: results.curve(found, key) for name, found in rows.items()}
        if svg := charts.lines(curves, unit, starts_at_zero=True):
            pictures.append(Chart(title, svg))
    split = task.scores[-1].split if task.scores else None
    page = task.folder / PAGE
    return {
        "name": task.name,
        "task": task,
        "page": page.relative_to(output).as_posix() if page.is_file() else None,
        "has_control": any(score.control is not None for score in task.scores),
        "baselines": list(dict.fromkeys(name for s in task.scores for name in s.baselines)),
        "charts": pictures,
        "by_label": by_label(task.report, split),
        "by_label_split": split,
        "training": task.report["training"],
        "data": task.report["data"],
        "counts": list(dict.fromkeys(k for found in task.report["data"].values() for k in found)),
    }


def run_name(run: Path) -> str:
    """For example `seed 1`, `seed 1 without pretraining`."""
    is_control = run.parent.name == "control"
    return run.name.replace("-", " ") + (" without pretraining" if is_control else "")


def by_label(report: Mapping[str, Any], split: str | None) -> list[tuple[str, Mapping[str, Any]]]:
    """Precision, recall and F1 of every entity type or class."""
    found = report[split]["report"] if split else {}
    if "entities" in found:
        return list(found["entities"]["by_type"].items())
    return list(found.get("by_label", {}).items())


def number(value: float | int | str | None, digits: int = 3) -> str:
    """A number as people read it; an empty cell if it was not measured, a word as it is."""
    if value is None or isinstance(value, str):
        return value or ""
    return f"{value:,}" if isinstance(value, int) else f"{value:.{digits}f}"


def percent(share: float | None, digits: int = 1) -> str:
    """A share as people read it; a dash if it was not measured."""
    return "–" if share is None else f"{100 * share:.{digits}f} %"
