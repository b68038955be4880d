"""Train a task on some of its rows and predict others that the model knows nothing of.

The task's valid rows choose the checkpoint and calibrate decoding, as in any training; the rows
that are predicted decide nothing. Test rows are left out altogether.

The folder of such a fit holds the curves of the run, `outputs.npz` (float32 `logits` (N, L) of all
scored outputs, in window order) and, written last, `manifest.json`: what the fit was made from
(`identity`), how outputs are decoded, and facts of the training. A fit with a manifest is not
repeated; its checkpoints are deleted. One that was stopped continues from its checkpoint. A
manifest of other rows or settings is refused.
"""

import gc
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from finetune import evaluation, single
from finetune.config import Recipe
from finetune.evaluation import Outputs, Scored
from finetune.fit import Trainable, fit
from finetune.heads import Objective
from finetune.prepare import Prepared
from runtime import drift, processes, provenance, retention, stages
from runtime.engine import Engine
from runtime.errors import DataError

SPLIT = "held_out"  # the rows that are predicted, beside train and valid
OUTPUTS = "outputs.npz"


@dataclass(frozen=True)
class Learner:
    """What kind of model is trained on a task's rows."""

    trainable: Callable[[Prepared], Trainable]
    objective: Callable[[Engine, Prepared], Objective]  # of the task, in the trained model
    identity: Callable[[Prepared], dict[str, Any]]  # JSON: what a fit depends on
    beside: Sequence[str] = ()  # the other tasks that it is trained on


ALONE = Learner(
    single.trainable,
    lambda engine, prepared: evaluation.whole(engine),
    lambda prepared: single.identity_of(prepared, is_random=False),
)


@dataclass(frozen=True)
class Predicted:
    """What a model said of the rows it had not seen."""

    scored: Scored
    training: dict[str, Any]  # facts of the fit


def part(prepared: Prepared, train: Sequence[Any], held_out: Sequence[Any]) -> Prepared:
    """A task on some of its training rows, with the rows to be predicted as a split, without
    test."""
    valid = prepared.data["valid"].rows
    return single.fold(prepared, list(train), list(valid)).with_rows(**{SPLIT: held_out})


def predicted(
    recipe: Recipe,
    prepared: Prepared,
    folder: Path,
    seed: int,
    accepts_drift: bool = False,
    learner: Learner = ALONE,
) -> Predicted:
    """Train on a `part` and predict what it holds out, unless that was done. All ranks call it.

    Raises DataError if the folder holds a finished fit of other rows or settings.
    """
    # Rows are given here: which operations made some of them is no setting of this fit.
    prepared = replace(prepared, task=prepared.task.model_copy(update={"augment": ()}))
    identity = identity_of(recipe, prepared, seed, learner)
    if processes.all_ranks((folder / stages.MANIFEST).is_file()):
        return stored(prepared, folder, identity)
    fitted = fit(learner.trainable(prepared), recipe, folder, seed, accepts_drift)
    part = learner.objective(fitted.engine, prepared)
    decoding = evaluation.calibrated(fitted.engine, prepared, part)[1]
    outputs = evaluation.outputs(fitted.engine, prepared.encoded[SPLIT].windows, part)
    training = fitted.training
    del fitted, part
    gc.collect()  # the engine's parameters, before the next model is built
    if processes.rank() == 0:
        write(folder, outputs, identity, {"decoding": decoding, "training": training})
        retention.remove(folder / "checkpoints")
    processes.barrier()
    return Predicted(evaluation.scored(prepared, SPLIT, outputs, decoding), training)


def identity_of(
    recipe: Recipe, prepared: Prepared, seed: int, learner: Learner = ALONE
) -> dict[str, Any]:
    """What the outputs of a fit depend on, as JSON."""
    return drift.as_json(
        {
            **learner.identity(prepared),
            "patience": prepared.task.patience,
            "engine": {"precision": recipe.engine.precision},
            "optimizer": recipe.optimizer.model_dump(mode="json"),
            "guard": recipe.guard.model_dump(mode="json"),
            "seed": seed,
        }
    )


def write(folder: Path, outputs: Outputs, identity: dict[str, Any], facts: dict[str, Any]) -> None:
    """Store a finished fit, the manifest last."""
    with provenance.atomic(folder / OUTPUTS) as temporary, temporary.open("wb") as file:
        np.savez(file, logits=np.concatenate(outputs.logits))
    manifest = {
        "format": "textmill-held-out",
        "version": 1,
        "identity": identity,
        **facts,
        "loss": outputs.loss,
        "versions": provenance.versions(),
    }
    provenance.write_json(folder / stages.MANIFEST, manifest)


def stored(prepared: Prepared, folder: Path, identity: dict[str, Any]) -> Predicted:
    """Read a finished fit. Raises DataError if it is of other rows or settings, or unreadable."""
    manifest = provenance.read_json(folder / stages.MANIFEST)
    found = drift.changes(manifest["identity"], identity)
    if found:
        raise DataError(
            f"{folder} was trained on other rows or settings (there -> this run):\n"
            f"{drift.described(found)}\nrestore them, set another `output`, or delete the folder "
            "to train it anew"
        )
    windows = prepared.encoded[SPLIT].windows
    sizes = [len(window.positions) for window in windows]
    try:
        with np.load(folder / OUTPUTS) as arrays:
            logits = np.split(arrays["logits"], np.cumsum(sizes)[:-1])
    except (OSError, ValueError, KeyError) as error:
        raise DataError(
            f"{folder / OUTPUTS} cannot be read ({error}); delete {folder} and run again"
        ) from None
    if len(logits[-1]) != sizes[-1]:
        raise DataError(
            f"{folder / OUTPUTS} holds {sum(map(len, logits))} outputs, expected {sum(sizes)}; "
            f"delete {folder} and run again"
        )
    outputs = Outputs(logits, manifest["loss"])
    scored = evaluation.scored(prepared, SPLIT, outputs, manifest["decoding"])
    return Predicted(scored, manifest["training"])
