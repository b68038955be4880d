"""What fine-tuning a task came to: report.json, and the lines that say it on the console."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from types import ModuleType
from typing import Any

from finetune import contamination
from finetune.encoder import Encoder
from finetune.evaluation import Scored, evaluate
from finetune.task import Dataset, Encoded
from runtime.engine import Engine


@dataclass(frozen=True)
class Prepared:
    """A task ready to be trained: its data as model inputs, by split."""

    name: str
    task: Any  # the plug-in's Params
    plugin: ModuleType
    encoder: Encoder
    labels: list[str]
    max_length: int
    data: dict[str, Dataset]  # train, valid and, if there is one, test
    encoded: dict[str, Encoded]

    def contamination(self) -> dict[str, dict[str, Any]]:
        """What is known of each scored split's rows in the pretraining text."""
        return contamination.of(self.name, self.data, self.encoder.decontamination)

    def evaluate(self, engine: Engine, split: str) -> Scored:
        """Score the model on a split. All ranks call it."""
        return evaluate(
            engine,
            self.plugin,
            self.data[split],
            self.encoded[split],
            self.labels,
            self.encoder.tokenizer.pad_id,
        )


@dataclass(frozen=True)
class Trained:
    """What one training run came to, at its best checkpoint."""

    training: dict[str, Any]
    results: dict[str, Scored]  # by split: valid and, if there is one, test


def of(
    prepared: Prepared, trained: Trained, control: Trained | None, onnx: dict[str, Any] | None
) -> dict[str, Any]:
    """Everything that was measured, as report.json holds it."""
    train_rows = prepared.data["train"]
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
        **as_json(trained.results),
        "contamination": prepared.contamination(),
        "baselines": {
            split: prepared.plugin.baselines(train_rows, prepared.data[split], prepared.labels)
            for split in trained.results
        },
        "control": None
        if control is None
        else {"training": control.training, **as_json(control.results)},
        "onnx": onnx,
    }


def as_json(results: Mapping[str, Scored]) -> dict[str, Any]:
    return {
        split: {"loss": scored.loss, **asdict(scored.scores)} for split, scored in results.items()
    }


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
