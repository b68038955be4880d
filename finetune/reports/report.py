"""What fine-tuning a task came to: report.json, and the lines that say it on the console."""

import logging
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetune import contamination
from finetune.evaluation import Scored
from finetune.prepare import Prepared
from runtime import provenance

log = logging.getLogger("textmill")


@dataclass(frozen=True)
class Trained:
    """What one training run came to, at its best checkpoint."""

    training: dict[str, Any]
    results: dict[str, Scored]  # by split: valid and, if there is one, test
    decoding: dict[str, Any]

    def score(self, prepared: Prepared) -> float:
        """On valid, by the task's metric: which seed is kept."""
        return self.results["valid"].scores.metrics[prepared.task.metric]


def of(
    prepared: Prepared,
    runs: Sequence[Trained],
    control: Sequence[Trained] | None,
    exported: dict[str, Any] | None,
    augmentation: Any,
) -> dict[str, Any]:
    """Everything that was measured, as report.json holds it; the first of the runs is the one
    that was exported."""
    train_rows = prepared.data["train"]
    trained = runs[0]
    return {
        "task": prepared.name,
        "kind": prepared.task.kind,
        "metric": prepared.task.metric,
        "labels": prepared.labels,
        "max_length": prepared.max_length,
        "data": {
            split: {**dataset.counts, **prepared.encoded[split].counts}
            for split, dataset in prepared.data.items()
        },
        "training": trained.training,
        "decoding": trained.decoding,
        **as_json(trained.results),
        "seeds": by_seed(runs),
        "contamination": contamination_of(prepared),
        "baselines": {
            split: prepared.plugin.baselines(train_rows, prepared.data[split], prepared.labels)
            for split in trained.results
        },
        "control": None
        if control is None
        else {
            "training": control[0].training,
            **as_json(control[0].results),
            "seeds": by_seed(control),
        },
        "augmentation": augmentation,
        "exports": exported,
    }


def by_seed(runs: Sequence[Trained]) -> dict[str, Any]:
    """Every metric over the seeds: values, mean and sample deviation."""
    found: dict[str, Any] = {"seeds": [run.training["seed"] for run in runs]}
    for split in runs[0].results:
        metrics = [run.results[split].scores.metrics for run in runs]
        found[split] = {
            name: {
                "values": [each[name] for each in metrics],
                "mean": statistics.fmean(each[name] for each in metrics),
                "deviation": statistics.stdev(each[name] for each in metrics)
                if len(runs) > 1
                else None,
            }
            for name in metrics[0]
        }
    return found


def as_json(results: Mapping[str, Scored]) -> dict[str, Any]:
    return {
        split: {
            "loss": scored.loss,
            "metrics": scored.scores.metrics,
            "report": scored.scores.report,
        }
        for split, scored in results.items()
    }


def contamination_of(prepared: Prepared) -> dict[str, dict[str, Any]]:
    """What is known of each scored split's rows in the pretraining text."""
    return contamination.of(prepared.name, prepared.data, prepared.encoder.decontamination)


def contamination_facts(prepared: Prepared) -> dict[str, str]:
    """In words, by fingerprint of the file that is scored."""
    return {
        provenance.file_fingerprint(prepared.data[split].path): found["words"]
        for split, found in contamination_of(prepared).items()
        if prepared.data[split].path.is_file()
    }


def write(
    folder: Path, prepared: Prepared, found: Mapping[str, Any], runs: Sequence[Trained]
) -> None:
    """report.json and the lines that say it; rank 0 calls it."""
    provenance.write_json(folder / "report.json", dict(found))
    for line in summary(prepared, found):
        log.info(line)


def summary(prepared: Prepared, report: Mapping[str, Any]) -> list[str]:
    """The result in a few lines: the model, its baselines, its control, and contamination."""
    metric = prepared.task.metric
    lines = []
    for split in ("valid", "test"):
        if split not in report:
            continue
        shown = {"fine-tuned": report[split]["metrics"][metric]}
        if report["control"] is not None:
            shown["without pretraining"] = report["control"][split]["metrics"][metric]
        for name, found in report["baselines"][split].items():
            shown[name] = found[metric]
        parts = "  ".join(f"{name} {value:.4f}" for name, value in shown.items())
        told = report["contamination"][split]["words"]
        lines.append(f"{prepared.name}: {split} {metric}  {parts}  ({told})")
    return lines
