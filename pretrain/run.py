"""One pretraining run: build, prove, train, export, and write the manifest last."""

import json
import logging
import math
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from data_prep.decontamination import combined
from data_prep.shards import Corpus
from pretrain import export, flops
from pretrain.averaging import average_last
from pretrain.batches import PREPARED_AHEAD, MixtureBatches, phase_data
from pretrain.budget import Budget, budget_of
from pretrain.config import Model, Recipe, Train
from pretrain.evaluate import evaluate
from pretrain.exports import Exports
from pretrain.hooks import Hook
from pretrain.masker import Masker
from pretrain.model import build, execution, proof
from pretrain.model.objective import MaskedLM
from pretrain.plan import result_tables
from pretrain.predictions import Predictions
from pretrain.probes import Probes
from pretrain.reweighting import OnlineMixing
from pretrain.train import Job, Settings, train
from runtime import checkpoint, processes, provenance, schedule, stages, throughput
from runtime.engine import Batch, Engine
from runtime.recipe import to_toml
from runtime.stages import Plan

# Another value continues the same run without a word: what is trained stays as it was.
FREE_TO_CHANGE: dict[str, tuple[str, ...]] = {
    "train": ("evaluate_every_steps", "validation_samples", "micro_batch_size", "average_last"),
    "engine": ("ds_config", "activation_checkpointing", "compile", "deterministic"),
}
# What TensorBoard's page of parameters shows.
MAIN_NUMBERS: Any = {
    **dict.fromkeys(("seed", "model", "objective", "train", "optimizer", "schedule"), True),
    "engine": {"ds_config", "precision"},
    "mixture": {"strategy", "weights", "temperature"},
}
log = logging.getLogger("textmill")


def run(
    recipe: Recipe, table: Model, settings: Train, plan: Plan, accepts_drift: bool = False
) -> None:
    """Pretrain as the recipe says, or continue. All ranks call it."""
    started = time.time()
    corpus = Corpus(stages.folder(recipe.output, "data_prep"))
    batch = Batch(settings.global_batch_size, settings.micro_batch_size)
    batch.accumulation(processes.world_size())  # refuse what cannot work before anything is built
    budget = budget_of(settings, corpus.sequence_length)
    budget.check_ranks(processes.world_size())
    checkpoint.on_rank_0(lambda: provenance.record_start(plan.folder, to_toml(recipe)))
    mixing = online_mixing(recipe, corpus, budget)
    data = phase_data(recipe, budget, corpus, plan.folder, mixing)
    engine = Engine(
        lambda: make_objective(recipe, table, corpus, budget.longest),
        recipe.engine,
        recipe.optimizer,
        batch,
        recipe.seed,
    )
    objective = engine.module
    assert isinstance(objective, MaskedLM)
    first_position = build.first_position(objective.model.config)
    masker = Masker(corpus, recipe.objective, recipe.seed, first_position)
    batches = MixtureBatches(masker, data, budget, processes.rank(), processes.world_size())
    probe = batches.probe(min(batch.micro_size, 4))  # the same samples on every rank
    difference = proof.prove(engine, objective, probe, corpus.tokenizer.vocab_size)
    proof.report(difference, next(objective.parameters()).dtype)
    say_what_starts(engine, batches)
    predictions = Predictions.of(masker)
    seen = {"data": corpus.fingerprint, "decontamination": decontamination_of(table, corpus)}
    facts = {**seen, "recipe": recipe.name}
    exporter = export.Exporter(engine, objective.model, "model.", corpus.tokenizer.folder, facts)
    job = Job(
        engine,
        batches,
        lambda: evaluate(engine, masker, settings.validation_samples, batch.micro_size),
        lambda position, progress: rate_of_next(recipe, budget, position, progress),
        plan.folder,
        identity(recipe, corpus),
        hooks(recipe, settings, exporter, plan.folder, mixing),
        flops=flops.of_model(objective.model, corpus.tokenizer.pad_id),
        peak=throughput.peak(recipe.engine.peak_tflops, recipe.engine.precision),
        predict=lambda: predictions.markdown(engine, objective),
    )
    position = train(job, loop_settings(recipe, settings, accepts_drift))
    exporter.write(plan.folder / "export", {"step": position.step})
    average = None
    if settings.average_last is not None:
        average = average_last(settings.average_last, job, recipe.checkpoint, position, exporter)
    extra = {**seen, "average": average, "seconds": round(time.time() - started, 1)}
    checkpoint.on_rank_0(lambda: write_manifest(plan, position, engine, corpus, extra))


def make_objective(recipe: Recipe, table: Model, corpus: Corpus, longest: int) -> MaskedLM:
    """The model with its loss, its layers run as the recipe says."""
    model = build.build(table, corpus, longest)
    if recipe.engine.activation_checkpointing:
        execution.checkpoint_activations(model)
    if recipe.engine.compile:
        execution.compile_encoder(model)
    return MaskedLM(model)


def online_mixing(recipe: Recipe, corpus: Corpus, budget: Budget) -> OnlineMixing | None:
    """The mixture that changes while it is trained on, if the recipe asks for one."""
    if recipe.mixture.strategy != "online":
        return None
    return OnlineMixing(
        recipe.mixture,
        corpus,
        recipe.seed,
        lambda step: budget.at(step).first_sample,
        PREPARED_AHEAD,
    )


def hooks(
    recipe: Recipe,
    settings: Train,
    exporter: export.Exporter,
    folder: Path,
    mixing: OnlineMixing | None,
) -> list[Hook]:
    """What happens between steps."""
    found: list[Hook] = [] if mixing is None else [mixing]
    if settings.export_at:
        found.append(Exports(settings.export_at, exporter, folder))
    if settings.probes:
        tables = recipe.model_dump(mode="json", exclude_none=True)
        found.append(Probes(settings.probes, tables, exporter, folder))
    return found


def rate_of_next(
    recipe: Recipe, budget: Budget, position: checkpoint.Position, progress: float
) -> float:
    """The learning rate of the step after a position, in the step's middle: not 0 at either end."""
    ends = budget.share_done(position.step), budget.share_done(position.step + 1)
    share = max(progress, sum(ends) / 2)  # further if wall clock is the budget
    return recipe.optimizer.learning_rate * schedule.share_of_peak(recipe.schedule, min(share, 1.0))


def loop_settings(recipe: Recipe, settings: Train, accepts_drift: bool) -> Settings:
    """What the recipe says about the loop."""
    minutes = settings.budget_minutes
    return Settings(
        settings.evaluate_every_steps,
        recipe.checkpoint,
        recipe.track,
        recipe.guard,
        budget_seconds=None if minutes is None else minutes * 60,
        accepts_drift=accepts_drift,
        num_exports=1 + len(settings.export_at) + (settings.average_last is not None),
        description=f"```toml\n{to_toml(recipe)}```",
        hyperparameters=json.loads(recipe.model_dump_json(include=MAIN_NUMBERS)),
    )


def identity(recipe: Recipe, corpus: Corpus) -> dict[str, Any]:
    """What a checkpoint must have been made with, under the recipe's key paths, so that a
    difference can be named."""
    tables: dict[str, Any] = result_tables(recipe)
    free = FREE_TO_CHANGE
    if recipe.mixture.strategy == "online":  # evaluations decide the weights
        free = {**free, "train": ("micro_batch_size", "average_last")}
    for table, keys in free.items():
        tables[table] = {key: it for key, it in tables[table].items() if key not in keys}
    del tables["checkpoint"]
    return {
        **tables,
        "seed": recipe.seed,
        "tokenizer": corpus.tokenizer.fingerprint,
        "data": corpus.fingerprint,
    }


def decontamination_of(table: Model, corpus: Corpus) -> dict[str, Any] | None:
    """What is known of evaluation sets in all text the model will have seen; None: nothing.

    A model that continues a checkpoint has also seen that one's text.
    """
    own = corpus.manifest.get("decontamination")
    if table.checkpoint is None:
        return own
    facts = Path(table.checkpoint) / export.FACTS
    before = provenance.read_json(facts).get("decontamination") if facts.is_file() else None
    return combined(before, own)


def say_what_starts(engine: Engine, batches: MixtureBatches) -> None:
    if processes.rank() == 0:
        num_parameters = engine.num_parameters()
        log.info(
            "%s parameters, %d ranks x %d micro batches, %d steps, ln(vocabulary) = %.2f",
            f"{num_parameters:,}", processes.world_size(), engine.accumulation,
            batches.total_steps, math.log(batches.masker.corpus.tokenizer.vocab_size),
        )  # fmt: skip


def write_manifest(
    plan: Plan,
    position: checkpoint.Position,
    engine: Engine,
    corpus: Corpus,
    extra: dict[str, Any],
) -> None:
    """The stage is done when this file stands."""
    manifest = {
        "format": "textmill-pretrain",
        "version": 1,
        "inputs": plan.inputs,
        # The data's fingerprint, what is known of evaluation sets in it, the average of the last
        # checkpoints, and the seconds of the start that finished the run.
        **extra,
        "tokenizer": corpus.tokenizer.fingerprint,
        "position": asdict(position),
        "num_parameters": engine.num_parameters(),
        "world_size": processes.world_size(),
        "versions": provenance.versions(),
    }
    provenance.write_json(plan.folder / stages.MANIFEST, manifest)
    log.info("encoder exported to %s", plan.folder / "export")
