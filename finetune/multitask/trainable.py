"""Several tasks as one thing to fit: their batches, their judge, their scores, their exports."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from finetune import evaluation, layers, proof, single
from finetune.evaluation import Scored
from finetune.fit import Trainable
from finetune.multitask.batches import MultiTaskBatches, TaskBatches
from finetune.multitask.objective import LOG_VARIANCES, Together, build, parameters_of, whole
from finetune.multitask.prepare import Several, sizes
from finetune.multitask.progress import Noted, Progress
from finetune.multitask.sampling import Schedule
from finetune.multitask.weighting import Fixed, Rule, rule_of
from finetune.prepare import Prepared
from finetune.reports import pictures
from pretrain.batches import Batches
from pretrain.evaluate import Evaluation
from runtime.engine import Engine
from runtime.tracking import Tracker

# What may change between two starts of one training run.
NOT_OF_THE_RUN = {"patience", "seeds", "controls"}


def trainable(several: Several, interval_steps: int) -> Trainable:
    """One training run of the model; `interval_steps` between two points of its curves."""
    table, names = several.table, several.names
    noted = Noted()
    rule = rule_for(several, schedule_of(several, 0).steps_per_epoch)
    progress = Progress(names, several.norms, rule, noted, interval_steps)
    newest: dict[str, Scored] = {}  # what was judged last, for the pictures

    def judge(engine: Engine) -> Evaluation:
        newest.update(scores(engine, several))
        return evaluation_of(several, newest)

    def show(tracker: Tracker, step: int) -> None:
        for task in several.tasks:
            pictures.show(tracker, step, task, newest[task.name], f"{task.name}/")

    def batches(engine: Engine, seed: int) -> Batches:
        parts = together(engine)
        windows = {task.name: task.encoded["train"].windows for task in several.tasks}
        proof.settle(engine, [(parts.part(name), windows[name]) for name in names])
        schedule = schedule_of(several, seed)
        tasks = [
            TaskBatches(
                name,
                windows[name],
                parts.part(name),
                schedule.sizes[number],
                table.micro_batch_size,
                seed + number,
            )
            for number, name in enumerate(names)
        ]
        return MultiTaskBatches(tasks, schedule, loss_weights(several, progress))

    return Trainable(
        several.name,
        table,
        lambda: build(several, noted),
        rates(several),
        batches,
        judge,
        identity_of(several),
        hooks=[progress],
        show=show,
        hyperparameters={"multitask": table.model_dump(mode="json", exclude_none=True)},
    )


def schedule_of(several: Several, seed: int) -> Schedule:
    return Schedule(several.table, sizes(several.tasks), seed)


def rule_for(several: Several, steps_per_epoch: int) -> Rule:
    """How the weights change; beside trained log-variances what they multiply does not."""
    if several.table.weighting == "uncertainty":
        return Fixed(several.factors)
    return rule_of(several.table, steps_per_epoch)


def loss_weights(several: Several, progress: Progress) -> Callable[[], list[float]]:
    """The weights that batches scale losses by: 1 where the objective weighs them itself."""
    if several.table.weighting == "uncertainty":
        return lambda: [1.0] * len(several.tasks)
    return progress.weights


def rates(several: Several) -> Callable[[str], float]:
    """Learning rate of a parameter relative to the table's."""
    table = several.table
    of_layer = layers.rates(several.encoder.folder, table)
    of_variances = table.uncertainty_learning_rate / table.learning_rate
    return lambda name: of_variances if name == LOG_VARIANCES else of_layer(name)


def together(engine: Engine) -> Together:
    """The objectives of the model that an engine trains."""
    module = engine.module
    assert isinstance(module, Together)
    return module


def scores(engine: Engine, several: Several) -> dict[str, Scored]:
    """Every task on its valid rows, decoded as before calibration. All ranks call it."""
    parts = together(engine)
    found = {}
    for task in several.tasks:
        part = parts.part(task.name)
        decoding = evaluation.decoding(engine, task, part)
        found[task.name] = evaluation.evaluate(engine, task, "valid", decoding, part)
    return found


def evaluation_of(several: Several, found: Mapping[str, Scored]) -> Evaluation:
    """Scores on valid as the loop takes them: the main task's metric says what is best, and
    `loss/valid` is the weighted sum that the recipe asks for."""
    weighted = zip(several.table.weights.items(), several.norms, strict=True)
    metrics = {"loss/valid": sum(w * found[name].loss / norm for (name, w), norm in weighted)}
    for name, scored in found.items():
        metrics[f"valid_loss_by_task/{name}"] = scored.loss
        metrics |= {f"eval/{name}/{key}": v for key, v in scored.scores.metrics.items()}
    main = several.main
    return Evaluation(metrics, found[main.name].scores.metrics[main.task.metric])


def export(
    engine: Engine, task: Prepared, folder: Path, tokenizer: Path, facts: Mapping[str, Any]
) -> None:
    """Write a task's model, encoder included, as an ordinary `save_pretrained` folder. All ranks
    call it."""
    parts = together(engine)
    part = parts.part(task.name)
    parameters = engine.full_parameters()
    found = None if parameters is None else parameters_of(parts, task.name, parameters)
    with whole(part.model):
        single.write(engine, part, found, folder, tokenizer, facts)


def identity_of(several: Several) -> dict[str, Any]:
    """What a checkpoint must have been made with to be continued."""
    return {
        "multitask": several.table.model_dump(mode="json", exclude=NOT_OF_THE_RUN),
        "order": several.names,
        "tasks": {task.name: single.identity_of(task, False) for task in several.tasks},
    }
