"""Two tasks on one encoder beside each task alone: what training together brings and costs.

    python benchmarks/multitask.py [--quick] [--fresh] [--pairs NAME ...] [--work FOLDER]

MiniLM-L6 on 1,000 training rows of each task of TEXTMILL_DATA (default ../shared/data),
3 seeds, the same settings together and alone: `biomedical` is NER of diseases (NCBI-disease, the
main task) with relation classification (ChemProt); `films` is sentiment (MR, the main task) with
topics (DBpedia), which have little in common. Weights fixed at 1 and 1 or at 1 and 0.3, and found
by uncertainty, DWA and FAMO. Scores are those of the test file (of ChemProt every third row), or of
held-out rows where there is none (MR, DBpedia).

A pair and a seed are one recipe on one core with one thread, two at the same time, in bf16 where
the processor is faster in it; hours of both cores. What results/multitask.json holds already is
not repeated unless `--fresh`; in `--work` a run that was stopped is continued. `--quick` takes 60
rows and one seed, and writes nothing.
"""

import argparse
import itertools
import statistics
import tempfile
from pathlib import Path
from typing import Any

import record
from fine_tuning import ENGINE, encoder, faster_precision, on_both_cores, run_recipe
from labelled_sets import CHEMPROT_LABELS, DATA, head
from rich.console import Console
from rich.table import Table

from runtime import provenance

NAME = "multitask"
ROWS, SEEDS, VALID_ROWS = 1000, (1, 2, 3), 400
WEIGHTINGS: dict[str, dict[str, Any]] = {
    "fixed-1-1": {"weighting": "fixed", "second": 1.0},
    "fixed-1-03": {"weighting": "fixed", "second": 0.3},
    "uncertainty": {"weighting": "uncertainty", "second": 1.0},
    "dwa": {"weighting": "dwa", "second": 1.0},
    "famo": {"weighting": "famo", "second": 1.0},
}
TASKS: dict[str, dict[str, Any]] = {
    "diseases": {
        "kind": "ner", "separator": "tab",
        "train": "ncbi-disease/train.txt", "valid": "ncbi-disease/dev.txt",
        "test": "ncbi-disease/test.txt",
    },
    "relations": {
        "kind": "classification", "format": "jsonl", "metric": "micro_f1",
        "train": "chemprot/train.txt", "valid": "chemprot/dev.txt", "test": "chemprot/test.txt",
        "labels": CHEMPROT_LABELS, "test_every": 3,
    },
    "sentiment": {
        "kind": "classification", "format": "label_first", "encoding": "cp1252",
        "train": "mr-polarity/rt-polarity.all", "valid_every": 4,
    },
    "topics": {
        "kind": "classification", "text_field": 1, "label_field": 0,
        "train": "dbpedia-subset/train.csv", "valid_every": 4,
    },
}  # fmt: skip
PAIRS = {"biomedical": ("diseases", "relations"), "films": ("sentiment", "topics")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="60 rows, one seed, no file")
    parser.add_argument("--pairs", nargs="+", choices=PAIRS, default=list(PAIRS))
    parser.add_argument("--fresh", action="store_true", help="repeat what is recorded already")
    parser.add_argument("--work", type=Path, help="folder to keep the runs in; default: none")
    arguments = parser.parse_args()
    path = record.RESULTS / f"{NAME}.json"
    is_kept = path.is_file() and not arguments.fresh and not arguments.quick
    raw: list[dict[str, Any]] = provenance.read_json(path)["raw"] if is_kept else []
    known = {(line["pair"], line["seed"]) for line in raw}
    seeds = SEEDS[:1] if arguments.quick else SEEDS
    wanted = [
        (pair, seed)
        for seed, pair in itertools.product(seeds, arguments.pairs)
        if (pair, seed) not in known
    ]
    with tempfile.TemporaryDirectory() as name:
        room = arguments.work.absolute() if arguments.work else Path(name)
        jobs = on_both_cores(wanted, lambda job, core: compared(*job, room, core, arguments.quick))
        for found in jobs:
            raw += found
            if not arguments.quick:
                record.write(NAME, figures(raw), raw)
    show(raw)


def compared(pair: str, seed: int, room: Path, core: int, is_quick: bool) -> list[dict[str, Any]]:
    """One recipe: both tasks alone, and together by every weighting."""
    folder = room / f"{pair}-{seed}"
    folder.mkdir(parents=True, exist_ok=True)
    main_task, second = PAIRS[pair]
    settings = {
        "encoder": str(encoder()),
        "epochs": 1 if is_quick else 4,
        "batch_size": 16,
        "learning_rate": 2e-4,
        "seeds": [seed],
    }
    rows = 60 if is_quick else ROWS
    recipe = {
        "name": "bench",
        "output": str(folder / "run"),
        "engine": ENGINE | {"precision": faster_precision()},
        "tasks": {name: files_of(name, folder, rows) | settings for name in (main_task, second)},
        "multitask": {
            name: settings
            | {"weights": {main_task: 1.0, second: found["second"]}}
            | {"weighting": found["weighting"]}
            for name, found in WEIGHTINGS.items()
        },
    }
    run_recipe(recipe, core)
    found = []
    for name in WEIGHTINGS:
        report = provenance.read_json(folder / "run/finetune" / name / "report.json")
        for task, told in report["transfer"].items():
            split = "test" if "test" in told else "valid"
            line = {"pair": pair, "seed": seed, "weighting": name, "task": task, "split": split}
            line["precision"] = faster_precision()
            found.append(line | told[split])
    return found


def files_of(name: str, folder: Path, rows: int) -> dict[str, Any]:
    """A task's table with the first rows of its files."""
    table = dict(TASKS[name])
    # These files are sorted by label: every n-th row, not the first ones.
    is_sorted = "valid" not in table
    for split, count in (("train", rows), ("valid", min(rows, VALID_ROWS))):
        if split not in table:
            continue
        source = DATA / table[split]
        target = folder / f"{name}-{split}{source.suffix}"
        if is_sorted:
            num_rows = source.read_bytes().count(b"\n")
            thinned(source, target, max(1, num_rows * 3 // (4 * count)))  # a quarter is held out
        else:
            head(source, target, count)
        table[split] = str(target)
    if "test" in table:
        source, target = DATA / table["test"], folder / f"{name}-test.txt"
        thinned(source, target, table.pop("test_every", 1))
        table["test"] = str(target)
    return table


def thinned(source: Path, target: Path, every: int) -> None:
    """Write every n-th line of a file to another."""
    target.write_bytes(b"".join(source.read_bytes().splitlines(keepends=True)[::every]))


def figures(raw: list[dict[str, Any]]) -> dict[str, float]:
    """Means over the seeds, in points: alone, together, and the difference with its deviation."""
    found: dict[str, float] = {}
    for pair, task, weighting in dict.fromkeys(map(place, raw)):
        lines = [line for line in raw if place(line) == (pair, task, weighting)]
        alone, together = (scores(lines, name) for name in ("alone", "together"))
        key = f"{pair}.{task}"
        found[f"{key}.alone"] = statistics.fmean(alone)
        found[f"{key}.{weighting}"] = statistics.fmean(together)
        gains = [ours - theirs for ours, theirs in zip(together, alone, strict=True)]
        found[f"{key}.{weighting}_difference"] = statistics.fmean(gains)
        if len(gains) > 1:
            found[f"{key}.{weighting}_difference_deviation"] = statistics.stdev(gains)
    return found


def place(line: dict[str, Any]) -> tuple[str, str, str]:
    """Where a line stands in the table."""
    return line["pair"], line["task"], line["weighting"]


def scores(lines: list[dict[str, Any]], name: str) -> list[float]:
    """Those of the seeds, in points."""
    return [100 * line[name]["mean"] for line in lines]


def show(raw: list[dict[str, Any]]) -> None:
    """The table on the console: a task a line, a weighting a column."""
    table = Table("pair", "task", "split", "seeds", "alone", *WEIGHTINGS)
    for pair, task in dict.fromkeys((line["pair"], line["task"]) for line in raw):
        lines = {
            name: [line for line in raw if place(line) == (pair, task, name)] for name in WEIGHTINGS
        }
        first = next(iter(lines.values()))
        cells = [
            points(scores(first, "alone")),
            *(points(scores(lines[name], "together")) for name in WEIGHTINGS),
        ]
        table.add_row(pair, task, first[0]["split"], str(len(first)), *cells)
    Console().print(table)


def points(scores: list[float]) -> str:
    deviation = f" ± {statistics.stdev(scores):.2f}" if len(scores) > 1 else ""
    return f"{statistics.fmean(scores):.2f}{deviation}"


if __name__ == "__main__":
    main()
