"""A run's folder as the stages leave it, small enough to check by eye."""

import json
from pathlib import Path
from typing import Any

RECIPE = """name = "small"
output = "unused"

[sources.wiki]
reader = "jsonl"

[model]
num_layers = 2

[tasks.places]
kind = "ner"
"""


def write(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = value if isinstance(value, str) else json.dumps(value)
    path.write_text(text, encoding="utf-8")


def lines(path: Path, rows: list[dict[str, Any]]) -> None:
    write(path, "".join(json.dumps(row) + "\n" for row in rows))


def started(output: Path) -> Path:
    """Only the recipe."""
    write(output / "recipe.toml", RECIPE)
    return output


def prepared(output: Path) -> Path:
    """Data preparation is done."""
    split = {"num_samples": 4, "num_tokens": 500, "documents_cut": 1, "padding_tokens": 12}
    write(
        started(output) / "data" / "manifest.json",
        {
            "sequence_length": 128,
            "tokenizer": {"vocab_size": 512},
            "duplicates": {
                "exact": {"wiki": {"wiki": 7}},
                "near": {"wiki": {"wiki": 0}},
                "lines": {"wiki": {"wiki": 3}},
            },
            "sources": {
                "wiki": {
                    "domain": "encyclopedia",
                    "documents": {
                        "read": 100,
                        "kept": 91,
                        "dropped": {"duplicate": 7},
                        "quarantined": {"not valid UTF-8": 2},
                    },
                    "splits": {"train": split, "valid": split},
                }
            },
        },
    )
    return output


def metrics(output: Path) -> list[dict[str, Any]]:
    """Validation loss 6.25 to 3.75 in 20 steps, with a step whose loss was not finite."""
    rows: list[dict[str, Any]] = [
        {"step": 0, "time": 1.0, "loss/valid": 6.25, "loss_by_domain/encyclopedia": 6.25}
    ]
    rows += [{"step": 10, "time": 2.0, "loss/train": "nan", "optim/learning_rate": 0.001}]
    rows += [
        {
            "step": 20,
            "time": 3.0,
            "loss/train": 3.5,
            "loss/valid": 3.75,
            "loss_by_domain/encyclopedia": 3.75,
            "optim/learning_rate": 0.0005,
            "perf/tokens_per_second": 1234.0,
        }
    ]
    lines(output / "pretrain" / "metrics.jsonl", rows)
    return rows


def pretrained(output: Path) -> Path:
    """Pretraining is done, too."""
    metrics(prepared(output))
    run = {
        "started": "2026-01-02T03:04:05+00:00",
        "command": ["pretrain", "small.toml"],
        "host": "node-7",
        "git": {"commit": "0123456789abcdef", "changed": True},
        "versions": {"python": "3.11.9", "torch": "2.13.0"},
    }
    write(output / "pretrain" / "run.json", {"starts": [run]})
    write(
        output / "pretrain" / "manifest.json",
        {"num_parameters": 54321, "world_size": 2, "position": {"tokens": 98765, "step": 20}},
    )
    return output


def finished(output: Path) -> Path:
    """All is done: F1 0.75 on the test rows, 0.5 without pretraining, 0.125 for a lookup; the mean
    of two seeds is 0.7."""

    def scores(f1: float) -> dict[str, Any]:
        row = {"precision": f1, "recall": f1, "f1": f1, "support": 9}
        report = {"entities": {"by_type": {"CITY <&>": row}}}
        return {"loss": 1.0, "metrics": {"f1": f1}, "report": report}

    def headline(f1: float, mean: float, control: float, lookup: float) -> dict[str, Any]:
        return {
            "metric": "f1",
            "value": f1,
            "interval": {"low": f1 - 0.1, "high": f1 + 0.1},
            "seeds": {"mean": mean, "deviation": 0.05, "count": 2},
            "control": {"mean": control, "deviation": None, "count": 1},
            "baselines": {"lookup": lookup},
            "contamination": "contamination unknown",
            "leaks": "3 of 20 rows in the training rows",
        }

    folder = pretrained(output) / "finetune" / "places"
    write(
        folder / "report.json",
        {
            "task": "places",
            "kind": "ner",
            "metric": "f1",
            "data": {"train": {"sentences": 40}, "test": {"sentences": 20, "tag_scheme": "iob2"}},
            "training": {"steps": 12, "best_step": 8, "seconds": 3.5},
            "valid": scores(0.625),
            "test": scores(0.75),
            "headline": {
                "valid": headline(0.625, 0.6, 0.375, 0.25),
                "test": headline(0.75, 0.7, 0.5, 0.125),
            },
        },
    )
    write(folder / "report.html", "<p>its own page</p>")
    for run, best in (("seed-1", 0.625), ("seed-2", 0.575), ("control/seed-1", 0.375)):
        rows = [
            {"step": step, "time": 4.0, "loss/train": 1.0, "eval/f1": f1}
            for step, f1 in ((4, best / 2), (8, best))
        ]
        lines(folder / run / "metrics.jsonl", rows)
    write(output / "finetune" / "places" / "manifest.json", {})
    return output
