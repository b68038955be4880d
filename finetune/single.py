"""One task as something to fit: its batches, its judge, its scores, its export."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from finetune import evaluation, heads, layers, proof
from finetune.batches import LabelledBatches
from finetune.evaluation import Scored
from finetune.fit import Trainable
from finetune.prepare import Prepared
from finetune.reports import pictures
from finetune.task import Task, Window
from pretrain.batches import Batches
from pretrain.evaluate import Evaluation
from pretrain.export import Exporter
from runtime import provenance
from runtime.engine import Engine
from runtime.tracking import Tracker


def trainable(prepared: Prepared, is_random: bool = False) -> Trainable:
    """The task, from its encoder or from random weights."""
    newest: list[Scored] = []  # what was judged last, for the pictures

    def judge(engine: Engine) -> Evaluation:
        newest[:] = [score(engine, prepared, "valid")]
        return evaluation_of(prepared, newest[0])

    def show(tracker: Tracker, step: int) -> None:
        pictures.show(tracker, step, prepared, newest[0])

    def batches(engine: Engine, seed: int) -> Batches:
        windows = prepared.encoded["train"].windows
        objective = evaluation.whole(engine)
        proof.settle(engine, [(objective, windows)])
        return LabelledBatches(
            windows,
            objective.inputs,
            prepared.task.batch_size,
            engine.accumulation,
            prepared.task.epochs,
            seed,
        )

    return Trainable(
        prepared.name,
        prepared.task,
        lambda: objective(prepared, is_random),
        layers.rates(prepared.encoder.folder, prepared.task),
        batches,
        judge,
        identity_of(prepared, is_random),
        show=show,
        hyperparameters={"task": json_of(prepared.task)},
    )


def objective(prepared: Prepared, is_random: bool) -> heads.Objective:
    """The task's model with its loss."""
    head = prepared.plugin.HEAD
    folder, windows = prepared.encoder.folder, windows_of(prepared)
    model, rows = heads.build_for(folder, head, prepared.labels, is_random, windows)
    return heads.Objective(model, head, prepared.loss, rows=rows)


def windows_of(prepared: Prepared) -> Iterator[Window]:
    """All that the model is given while it is trained, judged and scored."""
    for encoded in prepared.encoded.values():
        yield from encoded.windows


def score(engine: Engine, prepared: Prepared, split: str) -> Scored:
    """Score the model on a split, with decoding as it was before calibration. All ranks call
    it."""
    return evaluation.evaluate(engine, prepared, split, evaluation.decoding(engine, prepared))


def final_scores(engine: Engine, prepared: Prepared) -> tuple[dict[str, Scored], dict[str, Any]]:
    """Scores on every split after decoding was calibrated on valid, and that decoding. All ranks
    call it."""
    return evaluation.calibrated(engine, prepared)


def evaluation_of(prepared: Prepared, scored: Scored) -> Evaluation:
    """A score on valid as the loop takes it."""
    metrics = {"loss/valid": scored.loss}
    metrics |= {f"eval/{name}": value for name, value in scored.scores.metrics.items()}
    return Evaluation(metrics, scored.scores.metrics[prepared.task.metric])


def export(
    engine: Engine, prepared: Prepared, folder: Path, tokenizer: Path, facts: Mapping[str, Any]
) -> None:
    """Write the model as an ordinary `save_pretrained` folder. All ranks call it."""
    part = evaluation.whole(engine)
    found = engine.full_parameters()
    if found is not None:
        own = "model."  # a loss has parameters too: a CRF's transitions
        found = {k.removeprefix(own): v for k, v in found.items() if k.startswith(own)}
    write(engine, part, found, folder, tokenizer, facts)


def write(
    engine: Engine,
    part: heads.Objective,
    parameters: Mapping[str, Tensor] | None,
    folder: Path,
    tokenizer: Path,
    facts: Mapping[str, Any],
) -> None:
    """Write a task's model with these parameters, by its own names; those of rank 0 count."""
    with part.exported(parameters) as state:
        Exporter(engine, part.model, "", tokenizer).write_weights(state, folder, facts)


def identity_of(prepared: Prepared, is_random: bool) -> dict[str, Any]:
    """What a checkpoint must have been made with to be continued."""
    paths = {split: fingerprint(prepared, split) for split in prepared.data}
    return {
        "task": prepared.task.model_dump(
            mode="json", exclude={"patience", "control_random_init", "seeds", "alone"}
        ),
        "labels": prepared.labels,
        "is_control": is_random,
        "encoder": prepared.encoder.fingerprint,
        "tokenizer": prepared.encoder.tokenizer_fingerprint,
        "data": paths,
    }


def fingerprint(prepared: Prepared, split: str) -> str:
    """Of what a model is given of a split: its inputs and targets."""
    windows = prepared.encoded[split].windows
    return provenance.fingerprint(
        [[window.input_ids.tolist(), window.targets.tolist()] for window in windows]
    )


def model_facts(prepared: Prepared, decoding: Mapping[str, Any]) -> dict[str, Any]:
    """What `predict` needs besides the model: stored in textmill.json."""
    return {
        "task": json_of(prepared.task),
        "labels": prepared.labels,
        "decoding": dict(decoding),
        "max_length": prepared.max_length,
        "encoder": prepared.encoder.fingerprint,
    }


def json_of(task: Task) -> dict[str, Any]:
    """A task's table as the model carries it."""
    found: dict[str, Any] = task.model_dump(mode="json", exclude_none=True)
    return found


def fold(prepared: Prepared, train: list[Any], valid: list[Any]) -> Prepared:
    """The task on other training and validation rows and without test."""
    without = replace(
        prepared,
        data={k: v for k, v in prepared.data.items() if k != "test"},
        encoded={k: v for k, v in prepared.encoded.items() if k != "test"},
    )
    return without.with_rows(train=train, valid=valid)
