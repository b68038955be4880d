"""What fine-tuning a task came to: report.json, and everything that is made from it.

report.json, keys that are not plain from their names:
seeds          over the training runs: every metric's values, mean and sample deviation
valid, test    of the run that was exported (the best on valid): loss, metrics, and
               report      by label or type, by token
               intervals   of metrics, 95 %, from resampled rows
               confusion   counts of gold (rows) by predicted labels (columns)
               curves      precision against recall of the most frequent labels
               analysis    kinds of errors, with examples; calibration
               final       seqeval's reports in both modes, the table of tokens
headline       the task's metric beside what it has to be compared with
contamination  what is known of each scored split's rows in the pretraining text
leaks          copies between the splits, and rows found in the pretraining shards (leaks.py)
control        the same without pretraining
Beside it: predictions.SPLIT.jsonl, report.html, and in export/ the model card README.md.
"""

import logging
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetune.evaluation import Scored
from finetune.prepare import Prepared
from finetune.reports import (
    contamination,
    findings,
    headline,
    model_card,
    page,
    predictions,
    summary,
)
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
    exported: Any,
    augmentation: Any,
    leaks: Any = None,
) -> dict[str, Any]:
    """Everything that was measured, as report.json holds it; the first of the runs is the one
    that was exported."""
    train_rows = prepared.data["train"]
    trained = runs[0]
    found = {
        "task": prepared.name,
        "kind": prepared.task.kind,
        "head": prepared.plugin.HEAD,
        "metric": prepared.task.metric,
        "labels": prepared.labels,
        "max_length": prepared.max_length,
        "encoder": encoder_of(prepared),
        "table": prepared.task.model_dump(mode="json", exclude_none=True),
        "data": {
            split: {**dataset.counts, **prepared.encoded[split].counts}
            for split, dataset in prepared.data.items()
        },
        "files": files_of(prepared),
        "training": trained.training,
        "decoding": trained.decoding,
        **{
            split: as_json(scored) | findings.of(prepared, split, scored)
            for split, scored in trained.results.items()
        },
        "seeds": by_seed(runs),
        "contamination": contamination_of(prepared),
        "leaks": leaks,
        "baselines": {
            split: prepared.plugin.baselines(train_rows, prepared.data[split], prepared.labels)
            for split in trained.results
        },
        "control": None
        if control is None
        else {
            "training": control[0].training,
            **{split: as_json(scored) for split, scored in control[0].results.items()},
            "seeds": by_seed(control),
        },
        "augmentation": augmentation,
        "exports": exported,
        "versions": provenance.versions(),
    }
    return found | {"headline": headline.of(found)}


def encoder_of(prepared: Prepared) -> dict[str, Any]:
    """Where a task started."""
    folder, name = prepared.encoder.folder, prepared.task.encoder
    return {
        "name": name or str(folder),
        "hub_id": name if name is not None and folder != Path(name) else None,
        "fingerprint": prepared.encoder.fingerprint,
        "tokenizer": prepared.encoder.tokenizer_fingerprint,
    }


def by_seed(runs: Sequence[Trained]) -> dict[str, Any]:
    """Every metric over the seeds: values, mean and sample deviation."""
    found: dict[str, Any] = {
        "seeds": [run.training["seed"] for run in runs],
        "best_steps": [run.training["best_step"] for run in runs],
        "seconds": [run.training["seconds"] for run in runs],
    }
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


def as_json(scored: Scored) -> dict[str, Any]:
    return {"loss": scored.loss, "metrics": scored.scores.metrics, "report": scored.scores.report}


def files_of(prepared: Prepared) -> dict[str, dict[str, str]]:
    """Path and fingerprint of the files rows were read from; what is held out has train's."""
    return {
        split: {"path": str(data.path), "fingerprint": provenance.file_fingerprint(data.path)}
        for split, data in prepared.data.items()
        if data.path.is_file()
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
    """report.json and what is made from it; the closing lines. Rank 0 calls it, after the
    exports."""
    provenance.write_json(folder / "report.json", dict(found))
    for split, scored in runs[0].results.items():
        predictions.write(folder, prepared, split, scored)
    page.write(folder)
    if (folder / "export").is_dir():
        model_card.write(folder)
    for line in summary.lines(found, folder / page.PAGE):
        log.info(line)
