"""Reports of tasks that were never trained: real plug-ins, predictions by hand."""

from collections.abc import Sequence
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np

from finetune.evaluation import Scored
from finetune.ner.predictions import Prediction
from finetune.ner.tagged_text import Sentence, from_words
from finetune.ner.tags import Span, iob2
from finetune.reports import leaks, report
from finetune.reports.report import Trained
from finetune.task import Dataset, Encoded
from finetune.tasks import classification, ner
from finetune.texts.labelled_text import Row

TAGS = ["O", "B-<DRUG>", "I-<DRUG>", "B-GENE", "I-GENE"]
SEEDS = (3, 1)


def prepared(name: str, plugin: ModuleType, labels: list[str], **rows: Sequence[Any]) -> Any:
    """What reports read of a task."""
    kind = plugin.__name__.rpartition(".")[2]
    params = plugin.Params(kind=kind, train=Path("train"), encoder="org/encoder")
    return SimpleNamespace(
        name=name,
        task=params,
        plugin=plugin,
        labels=labels,
        max_length=64,
        data={split: Dataset(Path(split), list(found)) for split, found in rows.items()},
        encoded={
            split: Encoded([], {"tokens": 9 * len(found), "rows": len(found)})
            for split, found in rows.items()
        },
        scored=[split for split in ("valid", "test") if split in rows],
        encoder=SimpleNamespace(
            folder=Path("nowhere"), fingerprint="xxh3:1", tokenizer_fingerprint="xxh3:2",
            decontamination=None,
        ),
    )  # fmt: skip


def scored(task: Any, split: str, predictions: list[Any]) -> Scored:
    return Scored(task.plugin.score(task.data[split], predictions, task.labels), 0.25, predictions)


def trained(seed: int, task: Any, **predictions: list[Any]) -> Trained:
    training = {
        "seed": seed, "steps": 20, "steps_planned": 24, "best_step": 16, "tokens": 4321,
        "num_parameters": 98765, "seconds": 75.5,
    }  # fmt: skip
    results = {split: scored(task, split, found) for split, found in predictions.items()}
    return Trained(training, results, {})


def sentence(words: str, *spans: Span) -> Sentence:
    return from_words(words.split(), list(spans), 1)


def tagged(row: Sentence, *spans: Span) -> Prediction:
    return Prediction(iob2(spans, len(row.words)), list(spans), [0.875] * len(spans), False)


def entities() -> dict[str, Any]:
    """An NER task of two seeds with a control; on test the first finds 2 of 3 entities, one of
    them with the wrong type: F1 2 / 5 = 0.4."""
    rows = [
        sentence("aspirin helps <b> patients", Span(0, 1, "<DRUG>")),
        sentence("the BRCA1 gene and warfarin", Span(1, 3, "GENE"), Span(4, 5, "<DRUG>")),
    ]
    task = prepared("chemistry", ner, TAGS, train=rows[:1], valid=rows[:1], test=rows)
    good = {
        "valid": [tagged(rows[0], Span(0, 1, "<DRUG>"))],
        "test": [
            tagged(rows[0], Span(0, 1, "<DRUG>")),
            tagged(rows[1], Span(1, 3, "<DRUG>")),
        ],
    }
    bad = {"valid": [tagged(rows[0])], "test": [tagged(row) for row in rows]}
    runs = [trained(SEEDS[0], task, **good), trained(SEEDS[1], task, **bad)]
    control = [trained(SEEDS[0], task, **bad)]
    exported = {"onnx": {"file": "model.onnx", "bytes": 12_300_000, "max_difference": 4.2e-6}}
    found = report.of(task, runs, control, exported, None, leaks.between(task))
    return {"task": task, "runs": runs, "report": found}


def row(text: str, label: str) -> Row:
    return Row((text,), label, 1)


def classes() -> dict[str, Any]:
    """A classification of one run without control: on valid 3 of 4 rows are right."""
    rows = [row("good", "pos"), row("fine", "pos"), row("poor", "neg"), row("$5 | 5 *", "neg")]
    task = prepared("reviews", classification, ["neg", "pos"], train=rows[:2], valid=rows)
    chances = [(0.1, 0.9), (0.3, 0.7), (0.8, 0.2), (0.4, 0.6)]
    predictions = [
        classification.Prediction("pos" if pos > 0.5 else "neg", np.array([neg, pos]))
        for neg, pos in chances
    ]
    runs = [trained(7, task, valid=predictions)]
    found = report.of(task, runs, None, None, None, leaks.between(task))
    return {"task": task, "runs": runs, "report": found}
