"""Validation: loss, accuracy and bits per byte of every domain, always masked the same way.

Masking is fixed at 15 % of the tokens (80/10/10) with its own seed, whatever the training
objective, so that curves of different recipes compare. Every source is evaluated on samples as the
shards hold them, also in phases that leave it out or cut samples to another length; a source
without validation samples (a task's own text may be too little) is left out. Masked bits per byte
is the cross-entropy of the evaluated tokens in bits over the UTF-8 bytes those tokens spell: it
compares across vocabularies, the loss does not.

A stop signal ends an evaluation in the middle: it may take longer than a preempted job has left.
"""

import math
from dataclasses import dataclass

import numpy as np

from pretrain import masking
from pretrain.config import Objective
from pretrain.masker import Masker
from runtime import processes
from runtime.engine import Engine

OBJECTIVE = Objective(mask_share=0.15)
SEED = 20_211


@dataclass(frozen=True)
class Evaluation:
    """Result of one evaluation: metrics by tag, and the score that decides what is best."""

    metrics: dict[str, float]
    score: float  # higher is better


@dataclass(frozen=True)
class Totals:
    """Sums over the targets of one source, all ranks."""

    loss: float  # nats
    hits: float
    targets: float
    num_bytes: float  # UTF-8, spelled by the targets

    @property
    def bits_per_byte(self) -> float:
        return self.loss / math.log(2) / self.num_bytes if self.num_bytes else math.nan


def evaluate(engine: Engine, masker: Masker, max_samples: int, micro_size: int) -> Evaluation:
    """Evaluate every source on at most `max_samples` validation samples. All ranks call it; raises
    StopRequested on all of them after a stop signal to any."""
    masker = Masker(masker.corpus, OBJECTIVE, SEED, masker.first_position)
    by_domain: dict[str, list[Totals]] = {}
    for name, facts in masker.corpus.sources.items():
        totals = evaluate_source(engine, masker, name, max_samples, micro_size)
        if totals.targets:
            by_domain.setdefault(facts.domain, []).append(totals)
    merged = {domain: add(parts) for domain, parts in by_domain.items()}
    if not merged:
        return Evaluation({}, -math.inf)
    everything = add(list(merged.values()))
    losses = [part.loss / part.targets for part in merged.values()]
    metrics = {
        "loss/valid": everything.loss / everything.targets,
        "loss/valid_macro": sum(losses) / len(losses),
        "eval/accuracy": everything.hits / everything.targets,
        "eval/bits_per_byte": everything.bits_per_byte,
        "eval/bits_per_byte_macro": sum(p.bits_per_byte for p in merged.values()) / len(merged),
    }
    for domain, part in merged.items():
        metrics[f"loss_by_domain/{domain}"] = part.loss / part.targets
        metrics[f"accuracy_by_domain/{domain}"] = part.hits / part.targets
        metrics[f"bits_per_byte_by_domain/{domain}"] = part.bits_per_byte
    return Evaluation(metrics, -metrics["loss/valid_macro"])


def evaluate_source(
    engine: Engine, masker: Masker, name: str, max_samples: int, micro_size: int
) -> Totals:
    """Sum over the first validation samples of a source; ranks take turns, all forward equally
    often."""
    corpus = masker.corpus
    reader = corpus.reader(name, "valid")
    num_samples = min(max_samples, reader.num_samples)
    if num_samples == 0:
        return Totals(0.0, 0.0, 0.0, 0.0)
    number = list(corpus.sources).index(name)
    token_bytes = corpus.tokenizer.token_bytes()
    sums = np.zeros(4)
    starts = range(0, num_samples, micro_size)
    world = processes.world_size()
    for turn in range(math.ceil(len(starts) / world)):
        processes.heed_stop()
        mine = turn * world + processes.rank()
        start = starts[mine] if mine < len(starts) else 0
        samples = np.arange(start, min(start + micro_size, num_samples))
        zeros = np.zeros_like(samples)
        keys = masking.sample_keys(SEED, zeros, zeros + number, samples)
        batch = masker.micro_batch(reader.gather(samples), keys, 0.0)
        _, losses, hits = engine.evaluate(batch.inputs)
        if mine < len(starts):  # otherwise only keeping the other ranks company
            targets = batch.inputs["targets"].numpy()[: batch.num_targets]
            sums += (
                losses.double().sum().item(),
                hits[: batch.num_targets].sum().item(),
                batch.num_targets,
                token_bytes[targets].sum(),
            )
    return Totals(*processes.sum_over_ranks(sums.tolist()))


def add(parts: list[Totals]) -> Totals:
    """The sum of several totals."""
    return Totals(
        sum(part.loss for part in parts),
        sum(part.hits for part in parts),
        sum(part.targets for part in parts),
        sum(part.num_bytes for part in parts),
    )
