"""`crossvalidate RECIPE [key.path=value ...] [--task NAME] [--folds N]`: score every training row
by a model that has not seen it.

NAME is a task or a multi-task model, of which the main task is scored. Writes
output/finetune/NAME/folds; what is done is not repeated.
"""

from argparse import ArgumentParser, Namespace
from dataclasses import replace
from typing import TYPE_CHECKING

from runtime import command
from runtime.errors import DataError, RecipeError
from runtime.stages import Plan

if TYPE_CHECKING:
    from finetune.config import Recipe

FOLDER = "folds"


def add_arguments(parser: ArgumentParser) -> None:
    command.add_arguments(parser)
    command.add_drift_argument(parser)
    parser.add_argument("--task", help="one task or multi-task model; without it: all of them")
    parser.add_argument("--folds", type=int, default=5, help="how many (default: 5)")


def run(found: Namespace) -> None:
    from finetune.config import Recipe
    from runtime import recipe

    checked = recipe.load(found.recipe, tuple(found.overrides), Recipe)
    if found.folds < 2:
        raise RecipeError(f"--folds {found.folds}: cross-validation needs at least 2")
    plans = {name: planned(checked, name, found.folds) for name in names(checked, found.task)}
    if found.dry_run or all(plan.is_done for plan in plans.values()):
        for plan in plans.values():
            command.print_plan(plan)
        return
    for plan in plans.values():
        if plan.pending:
            raise DataError(f"{plan.stage} cannot start: {plan.pending}")
    from finetune.commands.train import quiet
    from runtime import processes

    quiet()
    with processes.joined(checked, "finetune"):
        for name, plan in plans.items():
            if not plan.is_done:
                validate(checked, name, plan, found.folds, found.accept_drift)


def names(checked: "Recipe", task: str | None) -> list[str]:
    """The tasks and multi-task models that are meant. Raises RecipeError if there is none of that
    name."""
    known = [*checked.tasks, *checked.multitask]
    if not known or (task and task not in known):
        raise RecipeError(
            f"--task {task}: the tasks of the recipe are: {', '.join(known) or 'none'}"
        )
    trained = [name for name, found in checked.tasks.items() if found.alone]
    return [task] if task else [*trained, *checked.multitask]


def planned(checked: "Recipe", name: str, folds: int) -> Plan:
    """What cross-validating a task or a multi-task model would do."""
    from finetune import plan
    from runtime import provenance

    if name in checked.tasks:
        whole, rows = plan.plan_task(checked, name, checked.tasks[name]), "the training rows"
    else:
        whole = plan.plan_together(checked, name)
        rows = f"the training rows of {next(iter(checked.multitask[name].weights))}"
    return replace(
        whole,
        stage=f"{whole.stage}.{FOLDER}",
        folder=whole.folder / FOLDER,
        inputs=provenance.fingerprint([whole.inputs, folds]),
        lines=[*whole.lines, f"{folds} folds of {rows}"],
    )


def validate(checked: "Recipe", name: str, plan: Plan, folds: int, accepts_drift: bool) -> None:
    """Cross-validate one task or multi-task model; its manifest is written last. All ranks call
    it."""
    from finetune import crossvalidation, held_out
    from finetune.multitask import held_out as together
    from finetune.multitask.prepare import prepare as prepare_together
    from finetune.plan import seeds_of
    from finetune.prepare import prepare
    from runtime import processes, provenance, stages
    from runtime.recipe import to_toml

    several = prepare_together(checked, name) if name in checked.multitask else None
    prepared = prepare(checked, name) if several is None else several.main
    if processes.rank() == 0:
        provenance.record_start(plan.folder, to_toml(checked))
    processes.barrier()
    learner = held_out.ALONE
    if several is not None:
        learner = together.learner(checked, several, plan.folder, accepts_drift)
    seed = seeds_of(checked, prepared.task)[0]
    result = crossvalidation.run(
        checked, prepared, plan.folder, folds, seed, accepts_drift, learner
    )
    if processes.rank() != 0:
        return
    for line in crossvalidation.lines(prepared, plan.folder, result):
        print(line)
    manifest = {
        "format": "textmill-crossvalidation",
        "version": 1,
        "inputs": plan.inputs,
        "encoder": prepared.encoder.fingerprint,
        "world_size": processes.world_size(),
        "versions": provenance.versions(),
    }
    provenance.write_json(plan.folder / stages.MANIFEST, manifest)
