"""Train several tasks on one encoder, and show what that brings each of them.

The folder of a multi-task model holds
seed-N/          one training run each: checkpoints, curves
TASK/            as if the task had been trained alone: export/, report.json, report.html,
                 predictions; alone/ is its control, if that had to be trained
report.json      of the model: how often each task was seen, its weights at the end, and the tasks
                 beside their controls
report.md        the same comparison as a table
manifest.json    written last
What is kept is the checkpoint, and the run, with the best score of the main task on valid; the
first of them if several are as good.
"""

import gc
import logging
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from finetune import encoder, evaluation, single
from finetune.augmentation import autoaugment
from finetune.config import Recipe
from finetune.exporters import export
from finetune.fit import Fitted, fit
from finetune.multitask import controls, transfer
from finetune.multitask import trainable as together
from finetune.multitask.prepare import Several, prepare
from finetune.plan import EXPORT, seeds_of
from finetune.reports import leaks, report
from finetune.reports.report import Trained
from runtime import checkpoint, processes, provenance, stages
from runtime.recipe import to_toml
from runtime.stages import Plan

__all__ = ["prepare", "run"]

ALONE = "alone"  # folder of a task's control
log = logging.getLogger("textmill")


def run(recipe: Recipe, several: Several, plan: Plan, accepts_drift: bool) -> None:
    """Train, score, export and report a multi-task model. All ranks call it."""
    checkpoint.on_rank_0(lambda: begin(recipe, several, plan))
    leaking = {task.name: leaks.of(recipe, task) for task in several.tasks}
    several, augmented = with_copies(recipe, several, plan.folder, accepts_drift)
    say_what_starts(several)
    runs = train_seeds(recipe, several, plan.folder, accepts_drift)
    compared = compare(recipe, several, runs, plan.folder, accepts_drift)
    for task in several.tasks:
        folder = plan.folder / task.name
        exported = export.on_rank_0(folder / EXPORT, recipe.export, task.data["valid"])
        told = (exported, augmented[task.name], leaking[task.name])
        found = report.of(task, runs[task.name], None, *told)
        found |= {"together_with": several.names, "transfer": compared.get(task.name)}
        checkpoint.on_rank_0(partial(report.write, folder, task, found, runs[task.name]))
    checkpoint.on_rank_0(lambda: end(plan, several, runs, compared))


def begin(recipe: Recipe, several: Several, plan: Plan) -> None:
    """Note how the tasks were started; one rank calls it."""
    provenance.record_start(plan.folder, to_toml(recipe))
    encoder.copy_tokenizer(several.encoder.folder, plan.folder / "tokenizer")


def end(
    plan: Plan,
    several: Several,
    runs: dict[str, list[Trained]],
    compared: dict[str, dict[str, Any]],
) -> None:
    """Write what came of the tasks together, the manifest last; one rank calls it."""
    write_comparison(plan, several, runs, compared)
    shutil.rmtree(plan.folder / "tokenizer")
    finish(plan, several)


def with_copies(
    recipe: Recipe, several: Several, folder: Path, accepts_drift: bool
) -> tuple[Several, dict[str, Any]]:
    """The tasks with the augmented rows that their tables ask for, and what the reports say of
    those. All ranks call it."""
    found = {
        task.name: autoaugment.apply(recipe, task, folder / task.name, accepts_drift)
        for task in several.tasks
    }
    tasks = [task for task, _ in found.values()]
    return replace(several, tasks=tasks), {name: told for name, (_, told) in found.items()}


def compare(
    recipe: Recipe,
    several: Several,
    runs: dict[str, list[Trained]],
    folder: Path,
    accepts_drift: bool,
) -> dict[str, dict[str, Any]]:
    """Every task beside its control, if the table wants that. All ranks call it."""
    if not several.table.controls:
        return {}
    found = {}
    for task in several.tasks:
        alone = controls.of(recipe, several, task, folder / task.name / ALONE, accepts_drift)
        found[task.name] = transfer.of(task, runs[task.name], alone)
    return found


def train_seeds(
    recipe: Recipe, several: Several, folder: Path, accepts_drift: bool
) -> dict[str, list[Trained]]:
    """One run a seed; of each task what they came to, the best of the main task first, which is
    exported. All ranks call it."""
    runs: dict[str, list[Trained]] = {task.name: [] for task in several.tasks}
    main = several.main
    for seed in seeds_of(recipe, several.table):
        trainable = together.trainable(several, recipe.track.interval_steps)
        fitted = fit(trainable, recipe, folder / f"seed-{seed}", seed, accepts_drift)
        found = results_of(fitted, several)
        best = runs[main.name][:1]
        is_best = not best or found[main.name].score(main) > best[0].score(main)
        if is_best:
            export_all(fitted, several, found, folder)
        for name, trained in found.items():
            runs[name].insert(0 if is_best else len(runs[name]), trained)
        del fitted, trainable
        gc.collect()  # the engine's parameters, before the next model is built
    return runs


def results_of(fitted: Fitted, several: Several) -> dict[str, Trained]:
    """Of each task its scores, decoding calibrated on valid. All ranks call it."""
    parts = together.together(fitted.engine)
    schedule = together.schedule_of(several, fitted.training["seed"])
    found = {}
    for number, task in enumerate(several.tasks):
        results, decoding = evaluation.calibrated(fitted.engine, task, parts.part(task.name))
        windows = schedule.steps_of(number, fitted.position.step) * schedule.sizes[number]
        training = {
            **fitted.training,
            "steps_with_the_task": schedule.steps_of(number, fitted.position.step),
            "inputs_a_step": schedule.sizes[number],
            "passes": round(windows / schedule.num_windows[number], 2),
        }
        found[task.name] = Trained(training, results, decoding)
    return found


def export_all(fitted: Fitted, several: Several, found: dict[str, Trained], folder: Path) -> None:
    """Write the model of every task. All ranks call it."""
    for task in several.tasks:
        facts = single.model_facts(task, found[task.name].decoding)
        facts["contamination"] = report.contamination_facts(task)
        facts["together_with"] = several.names
        target = folder / task.name / EXPORT
        target.parent.mkdir(parents=True, exist_ok=True)
        together.export(fitted.engine, task, target, folder / "tokenizer", facts)


def write_comparison(
    plan: Plan,
    several: Several,
    runs: dict[str, list[Trained]],
    compared: dict[str, dict[str, Any]],
) -> None:
    """report.json and report.md of the model, and its closing lines. Rank 0 calls it."""
    found = {
        "multitask": several.name,
        "main": several.main.name,
        "table": several.table.model_dump(mode="json", exclude_none=True),
        "loss_norms": dict(zip(several.names, several.norms, strict=True)),
        "training": {name: each[0].training for name, each in runs.items()},
        "seeds": {name: report.by_seed(each) for name, each in runs.items()},
        "transfer": compared,
    }
    provenance.write_json(plan.folder / "report.json", found)
    if not compared:
        return
    provenance.write_text(
        plan.folder / "report.md",
        f"# {several.name}: tasks together and alone\n\n{transfer.markdown(compared)}",
    )
    log.info("%s: tasks together and alone", several.name)
    for line in transfer.lines(compared):
        log.info(line)


def finish(plan: Plan, several: Several) -> None:
    """Write the manifest: the model is done."""
    manifest = {
        "format": "textmill-finetune-together",
        "version": 1,
        "inputs": plan.inputs,
        "tasks": several.names,
        "encoder": several.encoder.fingerprint,
        "tokenizer": several.encoder.tokenizer_fingerprint,
        "contamination": {task.name: report.contamination_of(task) for task in several.tasks},
        "world_size": processes.world_size(),
        "versions": provenance.versions(),
    }
    provenance.write_json(plan.folder / stages.MANIFEST, manifest)


def say_what_starts(several: Several) -> None:
    """Rank 0 names the tasks and says what a step and an epoch hold."""
    if processes.rank() != 0:
        return
    schedule = together.schedule_of(several, 0)
    log.info(
        "%s: %d steps, %s, weights %s; an epoch is a pass over %s",
        several.name, schedule.total_steps, several.table.steps, several.table.weighting,
        several.main.name,
    )  # fmt: skip
    total = schedule.total_steps
    for number, task in enumerate(several.tasks):
        steps, size = schedule.steps_of(number, total), schedule.sizes[number]
        log.info(
            "  %s: %d labels, %d training inputs, %d a step in %d steps: %.1f passes",
            task.name, len(task.labels), schedule.num_windows[number], size, steps,
            steps * size / schedule.num_windows[number],
        )  # fmt: skip
