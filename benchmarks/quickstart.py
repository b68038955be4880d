"""The quickstart, timed as a whole and read back: seconds, loss, and scores beside their controls.

    python benchmarks/quickstart.py

Runs in a folder of its own that is deleted afterwards, with the commands of `make quickstart`, and
writes results/quickstart.json. There is no peer: nobody else has this chain in one command. What
ours has to beat is in the table: a majority vote and the same model without pretraining.
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import record
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parent.parent
COMMANDS = (
    ("corpus", [str(ROOT / "recipes/quickstart_corpus.py"), "runs/quickstart/corpus"]),
    ("pipeline", ["-m", "launch", "run", str(ROOT / "recipes/quickstart.toml")]),
)


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="textmill-quickstart-") as name:
        folder = Path(name)
        seconds = {label: timed(arguments, folder) for label, arguments in COMMANDS}
        figures, raw = read(folder / "runs/quickstart")
    figures = {"seconds": round(sum(seconds.values()), 1), **figures}
    path = record.write("quickstart", figures, [{"seconds": seconds}, *raw])
    table = Table("figure", "value", title="quickstart")
    for key, value in figures.items():
        table.add_row(key, f"{value:.4g}")
    Console().print(table)
    print(path)


def timed(arguments: list[str], folder: Path) -> float:
    """Run one command of the quickstart to its end; its output goes to the console."""
    started = time.perf_counter()
    subprocess.run([sys.executable, *arguments], cwd=folder, check=True)
    return round(time.perf_counter() - started, 1)


def read(output: Path) -> tuple[dict[str, float], list[Any]]:
    """The figures of a finished run, and the files they come from."""
    lines = (output / "pretrain/metrics.jsonl").read_text(encoding="utf-8").splitlines()
    losses = [row for row in map(json.loads, lines) if "loss/valid" in row]
    ner, classification = (
        json.loads((output / f"finetune/{task}/report.json").read_text(encoding="utf-8"))
        for task in ("mentions", "order")
    )
    figures = {
        "loss_start": losses[0]["loss/valid"],
        "loss_end": losses[-1]["loss/valid"],
        "ner_f1": ner["test"]["metrics"]["f1"],
        "ner_f1_random_init": ner["control"]["test"]["metrics"]["f1"],
        "classification_accuracy": classification["test"]["metrics"]["accuracy"],
        "majority_accuracy": classification["baselines"]["test"]["majority"]["accuracy"],
        "classification_accuracy_random_init": classification["control"]["test"]["metrics"][
            "accuracy"
        ],
    }
    return figures, [{"validation": losses}, {"mentions": ner["test"]["metrics"]}]


if __name__ == "__main__":
    main()
