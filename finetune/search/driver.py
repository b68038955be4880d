"""A search from beginning to end: the study, its trials, the best again, the result.

Everything is below output/finetune/search/TARGET/:
journal.log       the study; `optuna-dashboard output/finetune/search/TARGET/journal.log` shows it
trials/N/         one trial: recipe.toml, log.txt, and below finetune/ what training wrote
top/N-seed-S/     trial N again with seed S
search.json, best.toml    the result (finetune/search/result.py)
drivers/, lock    who works at it; any number of drivers may share the folder
Weights of trials that are over are deleted.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from finetune import plan
from finetune.config import Recipe
from finetune.search import job, places, progress, result, running, space, trial_recipe
from finetune.search.places import Place
from finetune.search.repeats import Repeats
from finetune.search.running import Setting
from finetune.search.study import Study
from finetune.search.table import Range
from finetune.search.trials import Trials
from runtime import stages
from runtime.errors import DataError

FOLDER = "search"


def folder_of(recipe: Recipe, target: str) -> Path:
    return stages.folder(recipe.output, plan.STAGE) / FOLDER / target


def run(
    recipe: Recipe, target: str, shares: list[Place], starter: job.Starter = job.popen
) -> dict[str, Any]:
    """Search, choose, write and show the result; returns what search.json holds. Raises
    StopRequested after a stop signal."""
    setting = Setting(
        recipe,
        target,
        folder_of(recipe, target),
        progress.watched_of(recipe, target),
        shares,
        starter,
    )
    setting.folder.mkdir(parents=True, exist_ok=True)
    study = Study(
        setting.folder,
        recipe.search,
        target,
        identity_of(recipe, target),
        num_evaluations(recipe, target),
        recipe.seed,
    )
    try:
        running.run(setting, Trials(setting, study))
        candidates = result.candidates_of(study, max(recipe.search.top, 1))
        if recipe.search.top:
            running.run(setting, Repeats(setting, study.driver, candidates))
        found = result.write(setting, study, candidates)
    finally:
        study.driver.leave()
    result.show(found, setting.folder, Console())
    return found


def check(recipe: Recipe, hostfile: Path | None) -> tuple[str, list[Place]]:
    """The target and the places. Raises RecipeError or DataError for what cannot work."""
    target = space.target_of(recipe)
    space.check(recipe, target)
    table = space.table_of(recipe, target)
    names = space.tasks_of(recipe, target)
    waiting = plan.awaited(recipe, table, space.table_name(recipe, target))
    waiting = waiting or next(filter(None, (plan.missing_file(recipe.tasks[n]) for n in names)), "")
    if waiting:
        raise DataError(f"the search of {target} cannot start: {waiting}")
    return target, places.of(recipe, hostfile, os.environ)


def identity_of(recipe: Recipe, target: str) -> dict[str, Any]:
    """What scores of trials depend on, as JSON; of settings that are searched, their ranges."""
    folder = Path("trial")
    seed = trial_recipe.seed_of(recipe, target)
    trial = trial_recipe.of(recipe, target, {}, folder, seed, None)
    data = trial.model_dump(mode="json", exclude_none=True)
    data = {name: data[name] for name in ("engine", "optimizer", "guard", "augment", "tasks")} | {
        "multitask": data["multitask"]
    }
    data["engine"] = {"precision": data["engine"]["precision"]}
    for key in recipe.search.space:
        *path, last = key.split(".")
        table = data
        for name in path:
            table = table.get(name, {})
        table.pop(last, None)
    rows = {name: plan.rows_of(task)["rows"] for name, task in trial.tasks.items()}
    encoder = plan.encoder_fingerprint(trial_recipe.encoder_of(recipe, target))
    return {
        **data,
        "metric": space.metric_of(recipe, target),
        "rows": rows,
        "encoder": encoder,
        "search": {
            "space": {key: as_json(found) for key, found in recipe.search.space.items()},
            "is_grid": recipe.search.sampler == "grid",
            "folds": recipe.search.folds,
        },
    }


def as_json(found: Range) -> dict[str, Any]:
    return found.model_dump(mode="json", exclude_none=True, exclude_defaults=True)


def num_evaluations(recipe: Recipe, target: str) -> int:
    """The most values that a trial reports."""
    if recipe.search.folds:
        return recipe.search.folds
    table = space.table_of(recipe, target)
    own = space.table_name(recipe, target)
    return highest(recipe.search.space, f"{own}.epochs", table.epochs) * highest(
        recipe.search.space, f"{own}.evaluations_per_epoch", table.evaluations_per_epoch
    )


def highest(searched: Mapping[str, Range], key: str, fixed: int) -> int:
    """The highest value of a setting, searched or not."""
    if key not in searched:
        return fixed
    found = searched[key]
    return int(found.high if found.high is not None else max(map(int, found.values or ())))


def lines(recipe: Recipe, target: str, shares: list[Place]) -> list[str]:
    """What would be searched, for `--dry-run`."""
    table = recipe.search
    grid = len(space.points(table.space)) if table.sampler == "grid" else None
    trials = f"{grid} trials, every point" if grid else f"{table.trials} trials by {table.sampler}"
    judged = f"mean over {table.folds} folds" if table.folds else "on valid"
    found = [f"{space.metric_of(recipe, target)} {judged}; {trials}, pruner {table.pruner}"]
    found += [f"{key}: {space.described(each)}" for key, each in table.space.items()]
    if table.top:
        found.append(f"the best {table.top} again over {table.top_seeds} other seeds")
    return [*found, f"{len(shares)} at a time: " + "; ".join(share.name for share in shares)]
