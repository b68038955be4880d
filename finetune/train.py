"""Fine-tune what a recipe names: every task alone, then tasks together.

A task's folder holds `seed-N/` (one training run each: checkpoints, curves), `export/` (the best
run's model, an ordinary save_pretrained folder), `report.json`, `control/` and, written last,
`manifest.json`.
"""

import gc
import logging
import shutil
from pathlib import Path
from typing import Any

from finetune import encoder, single
from finetune.augmentation import autoaugment
from finetune.config import Recipe
from finetune.exporters import export
from finetune.fit import batch_shape, fit
from finetune.multitask import train as multitask
from finetune.plan import seeds_of
from finetune.prepare import Prepared, prepare
from finetune.reports import leaks, report
from finetune.reports.report import Trained
from runtime import checkpoint, processes, provenance, stages
from runtime.recipe import to_toml
from runtime.stages import Plan

log = logging.getLogger("textmill")


def run(recipe: Recipe, plan: Plan, accepts_drift: bool = False) -> None:
    """Fine-tune everything that is not done. All ranks call it.

    The data of all of it is read and checked before the first model is trained.
    """
    export.check_installed(recipe.export)
    waiting = [part for part in plan.parts if not part.is_done]
    names = [part.folder.name for part in waiting]
    prepared = [prepare(recipe, name) for name in names if name in recipe.tasks]
    together = [multitask.prepare(recipe, name) for name in names if name in recipe.multitask]
    for table in [*(found.task for found in prepared), *(found.table for found in together)]:
        batch_shape(table).accumulation(processes.world_size())
    parts = {part.folder.name: part for part in waiting}
    for task in prepared:
        run_task(recipe, task, parts[task.name], accepts_drift)
    for several in together:
        multitask.run(recipe, several, parts[several.name], accepts_drift)


def run_task(recipe: Recipe, prepared: Prepared, plan: Plan, accepts_drift: bool) -> None:
    """Train, test, export and report one task. All ranks call it."""
    checkpoint.on_rank_0(lambda: begin(recipe, prepared, plan))
    found_leaks = leaks.of(recipe, prepared)
    prepared, augmentation = autoaugment.apply(recipe, prepared, plan.folder, accepts_drift)
    say_what_starts(prepared)
    trained = train_seeds(recipe, prepared, plan.folder, False, accepts_drift)
    exported = export.on_rank_0(plan.folder / "export", recipe.export, prepared.data["valid"])
    control = None
    if prepared.task.control_random_init:
        control = train_seeds(recipe, prepared, plan.folder / "control", True, accepts_drift)
    found = report.of(prepared, trained, control, exported, augmentation, found_leaks)
    checkpoint.on_rank_0(lambda: end(plan, prepared, found, trained))


def begin(recipe: Recipe, prepared: Prepared, plan: Plan) -> None:
    """Note how the task was started; one rank calls it."""
    provenance.record_start(plan.folder, to_toml(recipe))
    encoder.copy_tokenizer(prepared.encoder.folder, plan.folder / "tokenizer")


def end(plan: Plan, prepared: Prepared, found: dict[str, Any], trained: list[Trained]) -> None:
    """Write what came of the task, the manifest last; one rank calls it."""
    report.write(plan.folder, prepared, found, trained)
    shutil.rmtree(plan.folder / "tokenizer")
    finish(plan, prepared, found)


def train_seeds(
    recipe: Recipe, prepared: Prepared, folder: Path, is_random: bool, accepts_drift: bool
) -> list[Trained]:
    """One run a seed, the best on valid first; exports that one unless weights were random. All
    ranks call it."""
    runs: list[Trained] = []
    for seed in seeds_of(recipe, prepared.task):
        fitted = fit(
            single.trainable(prepared, is_random),
            recipe,
            folder / f"seed-{seed}",
            seed,
            accepts_drift,
        )
        results, decoding = single.final_scores(fitted.engine, prepared)
        trained = Trained(fitted.training, results, decoding)
        is_best = not runs or trained.score(prepared) > runs[0].score(prepared)
        if is_best and not is_random:
            facts = single.model_facts(prepared, decoding)
            facts["contamination"] = report.contamination_facts(prepared)
            tokenizer = folder / "tokenizer"
            single.export(fitted.engine, prepared, folder / "export", tokenizer, facts)
        runs.insert(0 if is_best else len(runs), trained)
        del fitted
        gc.collect()  # the engine's parameters, before the next model is built
    return runs


def finish(plan: Plan, prepared: Prepared, found: dict[str, Any]) -> None:
    """Write the manifest: the task is done."""
    manifest = {
        "format": "textmill-finetune",
        "version": 2,
        "inputs": plan.inputs,
        "encoder": prepared.encoder.fingerprint,
        "tokenizer": prepared.encoder.tokenizer_fingerprint,
        "contamination": found["contamination"],
        "world_size": processes.world_size(),
        "versions": provenance.versions(),
    }
    provenance.write_json(plan.folder / stages.MANIFEST, manifest)


def say_what_starts(prepared: Prepared) -> None:
    """Rank 0 names the task and counts its rows."""
    if processes.rank() != 0:
        return
    log.info(
        "%s: %d labels, %d training inputs of at most %d tokens",
        prepared.name, len(prepared.labels), len(prepared.encoded["train"].windows),
        prepared.max_length,
    )  # fmt: skip
    for split, found in prepared.encoded.items():
        counts = {**prepared.data[split].counts, **found.counts}
        shown = ", ".join(f"{key} {value}" for key, value in counts.items() if value)
        log.info("  %-5s %s", split, shown)
