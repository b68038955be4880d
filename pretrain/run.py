"""One pretraining run: build, prove, train, export, and write the manifest last."""

import logging
import math
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from data_prep.decontamination import combined
from data_prep.mixture import shares_of
from data_prep.shards import Corpus
from pretrain import export
from pretrain.batches import MixtureBatches
from pretrain.config import Model, Recipe, Train
from pretrain.evaluate import evaluate
from pretrain.masker import Masker
from pretrain.model import build, proof
from pretrain.model.objective import MaskedLM
from pretrain.train import Job, Settings, train
from runtime import checkpoint, processes, provenance, schedule, stages
from runtime.engine import Batch, Engine
from runtime.recipe import to_toml
from runtime.stages import Plan

log = logging.getLogger("textmill")


def run(recipe: Recipe, table: Model, settings: Train, plan: Plan) -> None:
    """Pretrain as the recipe says, or continue. All ranks call it."""
    started = time.time()
    corpus = Corpus(stages.folder(recipe.output, "data_prep"))
    batch = Batch(settings.global_batch_size, settings.micro_batch_size)
    batch.accumulation(processes.world_size())  # refuse what cannot work before anything is built
    if processes.rank() == 0:
        provenance.record_start(plan.folder, to_toml(recipe))
    processes.barrier()
    engine = Engine(
        lambda: MaskedLM(build.build(table, corpus)),
        recipe.engine,
        recipe.optimizer,
        batch,
        recipe.seed,
    )
    objective = engine.module
    assert isinstance(objective, MaskedLM)
    first_position = build.first_position(objective.model.config)
    masker = Masker(corpus, recipe.objective, recipe.seed, first_position)
    batches = training_batches(recipe, masker, batch, settings.total_tokens)
    probe = batches.micro_batch(0, min(batch.micro_size, 4))  # the same samples on every rank
    difference = proof.prove(engine, objective, probe, corpus.tokenizer.vocab_size)
    proof.report(difference, next(objective.parameters()).dtype)
    say_what_starts(engine, batches)

    def learning_rate(position: checkpoint.Position, progress: float) -> float:
        # The middle of a step: neither end of the run is at 0.
        ends = batches.share_done(position.step), batches.share_done(position.step + 1)
        share = max(progress, sum(ends) / 2)
        peak = recipe.optimizer.learning_rate
        return peak * schedule.share_of_peak(recipe.schedule, min(share, 1.0))

    position = train(
        Job(
            engine,
            batches,
            lambda: evaluate(engine, masker, settings.validation_samples, batch.micro_size),
            learning_rate,
            plan.folder,
            identity(recipe, corpus, table, batch),
        ),
        Settings(
            settings.evaluate_every_steps,
            recipe.checkpoint,
            recipe.track,
            recipe.guard,
            budget_seconds=settings.budget_minutes and settings.budget_minutes * 60,
            description=f"```toml\n{to_toml(recipe)}```",
        ),
    )
    seen = {"data": corpus.fingerprint, "decontamination": decontamination_of(table, corpus)}
    facts = {**seen, "recipe": recipe.name, "step": position.step}
    export.export(
        engine, objective.model, "model.", corpus.tokenizer.folder, plan.folder / "export", facts
    )
    if processes.rank() == 0:
        write_manifest(plan, position, engine, corpus, seen, time.time() - started)


def training_batches(
    recipe: Recipe, masker: Masker, batch: Batch, total_tokens: int
) -> MixtureBatches:
    """This rank's batches from the mixture of all sources."""
    corpus = masker.corpus
    return MixtureBatches(
        masker,
        [corpus.reader(name, "train") for name in corpus.sources],
        shares_of(recipe.mixture, corpus),
        batch,
        total_tokens,
        processes.rank(),
        processes.world_size(),
    )


def identity(recipe: Recipe, corpus: Corpus, table: Model, batch: Batch) -> dict[str, str]:
    """What a checkpoint must have been made with to be continued."""
    return {
        "model": provenance.fingerprint([table.model_dump(), recipe.engine.precision]),
        "tokenizer": corpus.tokenizer.fingerprint,
        "data": corpus.fingerprint,
        "order of samples": provenance.fingerprint(
            [
                recipe.seed,
                batch.global_size,
                recipe.mixture.model_dump(),
                recipe.objective.model_dump(),
            ]
        ),
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
    seen: dict[str, Any],
    seconds: float,
) -> None:
    """The stage is done when this file stands."""
    manifest = {
        "format": "textmill-pretrain",
        "version": 1,
        "inputs": plan.inputs,
        **seen,  # the fingerprint of the data, and what is known of evaluation sets in it
        "tokenizer": corpus.tokenizer.fingerprint,
        "position": asdict(position),
        "num_parameters": engine.num_parameters(),
        "world_size": processes.world_size(),
        "seconds": round(seconds, 1),  # of the start that finished the run
        "versions": provenance.versions(),
    }
    provenance.write_json(plan.folder / stages.MANIFEST, manifest)
    log.info("encoder exported to %s", plan.folder / "export")
