"""What pretraining brings to tasks of a domain (after Gururangan et al. 2020).

    python benchmarks/pretraining_helps.py [--quick] [--fresh] [--work FOLDER] [--tasks NAME ...]

One shape (MiniLM-L6: 6 layers x 384, its tokenizer), five starts: random weights; pretrained here
from scratch on general text; MiniLM as released; MiniLM pretrained further on the task's own
training text without labels (`task`); on the training texts of four biomedical and scientific sets
together (`domain`). Three tasks of TEXTMILL_DATA (default ../shared/data) on 1,500 training rows
each, 3 seeds: NCBI-disease (strict entity F1), ChemProt (micro F1), SciCite (macro F1), on test.
Texts of test sets are taken out of all pretraining text by the recipe's decontamination.

In bf16 where the processor is faster in it: encoders are pretrained by two ranks, tasks fine-tuned
two at a time on one core each; hours of both cores. Runs that results/pretraining_helps.json holds
are not repeated unless `--fresh`; encoders are made again unless they are in `--work`, where they
stay (augmentation.py takes the same folder). `--quick` takes little of everything and writes
nothing.
"""

import argparse
import itertools
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import record
import tomli_w
from fine_tuning import call, encoder, faster_precision, fine_tuned, on_both_cores, recipe_of
from labelled_sets import CHEMPROT_LABELS
from rich.console import Console
from rich.table import Table

from runtime import provenance

ROOT = Path(__file__).resolve().parent.parent
DATA = Path(os.environ.get("TEXTMILL_DATA", ROOT.parent / "shared/data"))
NAME = "pretraining_helps"
SEEDS = (1, 2, 3)
STARTS = ("random", "ours", "minilm", "task", "domain")
TRAIN_ROWS = 1500
TOKENS = {"ours": 2_000_000, "task": 400_000, "domain": 1_200_000}
RATES = {"ours": 1e-3, "task": 1e-4, "domain": 1e-4}
GENERAL = ("books", "docs", "legal", "wiki")
TASKS: dict[str, dict[str, Any]] = {
    "ncbi-disease": {"kind": "ner", "separator": "tab", "metric": "f1"},
    "chemprot": {
        "kind": "classification",
        "format": "jsonl",
        "metric": "micro_f1",
        "labels": CHEMPROT_LABELS,
    },
    "scicite": {"kind": "classification", "format": "jsonl", "metric": "macro_f1"},
}
DOMAIN = ("ncbi-disease", "bc5cdr", "chemprot", "scicite")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="little of everything, no file")
    parser.add_argument("--fresh", action="store_true", help="repeat what is recorded already")
    parser.add_argument("--work", type=Path, help="folder to keep encoders in; default: none")
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    arguments = parser.parse_args()
    path = record.RESULTS / f"{NAME}.json"
    is_kept = path.is_file() and not arguments.fresh and not arguments.quick
    done: list[dict[str, Any]] = provenance.read_json(path)["raw"] if is_kept else []
    seeds = SEEDS[:1] if arguments.quick else SEEDS
    known = {(run["task"], run["start"], run["seed"]) for run in done}
    wanted = [
        (task, start, seed)
        for start, seed, task in itertools.product(STARTS[1:], seeds, arguments.tasks)
        if (task, start, seed) not in known
    ]
    with tempfile.TemporaryDirectory() as folder:
        encoders = {
            (task, start): pretrained(arguments.work or Path(folder), task, start, arguments.quick)
            for task, start in dict.fromkeys((task, start) for task, start, _ in wanted)
        }
        rows = {task: first_rows(Path(folder), task, arguments.quick) for task in arguments.tasks}

        def run(job: tuple[str, str, int], core: int) -> list[dict[str, Any]]:
            task, start, seed = job
            return scores(task, start, seed, encoders[task, start], rows[task], core)

        for found in on_both_cores(wanted, run):
            done += found
            for line in found:
                print(json.dumps(line), flush=True)
            if not arguments.quick:
                record.write(NAME, figures(done), done)
    show(done)


def pretrained(folder: Path, task: str, start: str, is_quick: bool) -> Path:
    """The folder of an encoder to start from."""
    if start == "minilm":
        return encoder()
    name = start if start != "task" else f"task-{task}"
    output = folder.absolute() / name
    if not (output / "pretrain/export").is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        recipe = folder / f"{name}.toml"
        recipe.write_text(
            tomli_w.dumps(pretraining_of(output, task, start, is_quick)), encoding="utf-8"
        )
        print(f"pretraining: {name}", flush=True)
        call([str(Path(sys.executable).with_name("textmill")), "run", str(recipe)])
    return output / "pretrain/export"


def pretraining_of(output: Path, task: str, start: str, is_quick: bool) -> dict[str, Any]:
    """The pretraining of one start."""
    tokens = TOKENS[start] // (40 if is_quick else 1)
    if start == "ours":
        sources = {
            name: {
                "reader": "jsonl", "id": "id", "domain": name,
                "path": str(DATA / f"corpora/{name}.jsonl.zst"), "max_documents": 400,
            }
            for name in GENERAL
        }  # fmt: skip
        shape = provenance.read_json(encoder() / "config.json")
        model: dict[str, Any] = {
            "architecture": "bert",
            "num_layers": shape["num_hidden_layers"],
            "hidden_size": shape["hidden_size"],
            "num_heads": shape["num_attention_heads"],
            "intermediate_size": shape["intermediate_size"],
            "max_positions": 512,
        }
    else:
        sources = {name: source(name) for name in ((task,) if start == "task" else DOMAIN)}
        model = {"checkpoint": str(encoder())}
    return {
        "name": "bench",
        "output": str(output),
        "launch": {"ranks": 2},
        "sources": sources,
        "clean": {"steps": []},
        "decontaminate": {"sets": {name: source(name, "test.txt") for name in TASKS}},
        "tokenizer": {"path": str(encoder())},
        "packing": {"sequence_length": 128, "valid_share": 0.02},
        "model": model,
        "objective": {"mask_share": 0.3 if start == "ours" else 0.15},
        "optimizer": {"learning_rate": RATES[start]},
        "train": {"total_tokens": tokens, "global_batch_size": 32, "micro_batch_size": 16,
                  "evaluate_every_steps": 200},
        "engine": {"precision": faster_precision(), "threads_per_rank": 1},
        "checkpoint": {"interval_steps": 200},
    }  # fmt: skip


def source(name: str, file: str = "train.txt") -> dict[str, Any]:
    """A labelled set as text."""
    path = str(DATA / "tasks" / name / file)
    if name in ("ncbi-disease", "bc5cdr"):
        return {"reader": "conll", "path": path, "sentences_per_document": 12}
    return {"reader": "jsonl", "path": path}


def first_rows(folder: Path, task: str, is_quick: bool) -> Path:
    """A file with the first training rows."""
    mark = "\n\n" if TASKS[task]["kind"] == "ner" else "\n"
    text = (DATA / "tasks" / task / "train.txt").read_text(encoding="utf-8")
    target = folder / f"{task}.txt"
    rows = text.split(mark)[: 200 if is_quick else TRAIN_ROWS]
    target.write_text(mark.join(rows) + "\n", encoding="utf-8")
    return target


def scores(
    task: str, start: str, seed: int, encoder_folder: Path, rows: Path, core: int
) -> list[dict[str, Any]]:
    """Scores on test; with those of random weights beside the released model's."""
    table = {
        "learning_rate": 2e-4,
        **TASKS[task],
        "encoder": str(encoder_folder),
        "train": str(rows),
        "valid": str(DATA / "tasks" / task / "dev.txt"),
        "test": str(DATA / "tasks" / task / "test.txt"),
        "epochs": 4,
        "batch_size": 16,
        "control_random_init": start == "minilm",
    }
    with (
        tempfile.TemporaryDirectory() as folder,
        fine_tuned(recipe_of(table, seed, Path(folder), faster_precision()), core) as home,
    ):
        report = provenance.read_json(home / "report.json")
    metric, precision = TASKS[task]["metric"], faster_precision()
    found = {start: report["test"]["metrics"][metric]}
    if report["control"]:
        found["random"] = report["control"]["test"]["metrics"][metric]
    return [
        {"task": task, "start": name, "seed": seed, "metric": metric, "test": score}
        | {"precision": precision}
        for name, score in found.items()
    ]


def figures(runs: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Mean and deviation over the seeds, in points."""
    found = {}
    for task, start in itertools.product(TASKS, STARTS):
        scores = [100 * run["test"] for run in runs if (run["task"], run["start"]) == (task, start)]
        if scores:
            found[f"{task}.{start}"] = statistics.fmean(scores)
            found[f"{task}.{start}_deviation"] = (
                statistics.stdev(scores) if len(scores) > 1 else 0.0
            )
    return found


def show(runs: Sequence[dict[str, Any]]) -> None:
    """The table on the console."""
    found = figures(runs)
    table = Table("task", "metric", *STARTS)
    for task, settings in TASKS.items():
        cells = [
            f"{found[f'{task}.{start}']:.2f} ± {found[f'{task}.{start}_deviation']:.2f}"
            if f"{task}.{start}" in found
            else ""
            for start in STARTS
        ]
        table.add_row(task, settings["metric"], *cells)
    Console().print(table)


if __name__ == "__main__":
    main()
