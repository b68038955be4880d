"""Validation against a reference that scores one segment, one token at a time."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from transformers import AutoModelForMaskedLM

from data_prep.shards import Corpus
from data_prep.tokenizer import reference
from pretrain.config import Model, Objective
from pretrain.evaluate import OBJECTIVE, SEED, Evaluation, evaluate
from pretrain.masker import Masker
from pretrain.masking import sample_keys
from pretrain.model import attention
from pretrain.model.build import shape
from pretrain.model.objective import MaskedLM
from runtime.engine import Engine

SAMPLES = {"plants": 5, "ships": 3}  # evaluated at most 5 of each source


class OnCpu:
    """Stands for an engine: one process, no optimizer."""

    def __init__(self, objective: MaskedLM) -> None:
        self.objective = objective.eval()

    @torch.no_grad()
    def evaluate(self, inputs: dict[str, Any]) -> Any:
        return self.objective(**inputs)


@pytest.fixture(scope="module")
def corpus(prepared: Path) -> Corpus:
    """Two domains, of which one has fewer samples than are asked for."""
    corpus = Corpus(prepared / "run/data")
    for name, facts in corpus.sources.items():
        corpus.sources[name] = replace(facts, domain=name)
    splits = corpus.sources["ships"].splits
    splits["valid"] = {**splits["valid"], "num_samples": SAMPLES["ships"]}
    return corpus


@pytest.fixture(scope="module")
def model(corpus: Corpus) -> Any:
    torch.manual_seed(0)
    config = shape(
        Model(num_layers=2, hidden_size=32, num_heads=2, intermediate_size=48, local_window=16),
        corpus.tokenizer,
        corpus.sequence_length,
    )
    return AutoModelForMaskedLM.from_config(config, attn_implementation=attention.NAME)


def evaluated(corpus: Corpus, model: Any, micro_size: int, objective: Objective) -> Evaluation:
    masker = Masker(corpus, objective, seed=9, first_position=0)
    return evaluate(cast(Engine, OnCpu(MaskedLM(model))), masker, 5, micro_size)


def scored_one_by_one(corpus: Corpus, model: Any, source: str) -> list[tuple[float, bool, int]]:
    """Loss, hit and bytes of each target, with the library's own attention."""
    model.config._attn_implementation = "sdpa"
    masker = Masker(corpus, OBJECTIVE, SEED, 0)
    tokenizer = reference(corpus.tokenizer.folder)
    scores = []
    for number in range(SAMPLES[source]):
        sample = np.array([number])
        key = sample_keys(SEED, sample * 0, sample * 0 + list(corpus.sources).index(source), sample)
        rows = corpus.reader(source, "valid").gather(sample)
        inputs = masker.micro_batch(rows, key, 0.0).inputs
        wanted = dict(zip(inputs["positions"].tolist(), inputs["targets"].tolist(), strict=True))
        start = 0
        for length in rows.lengths.tolist():
            with torch.no_grad():
                logits = model(input_ids=inputs["input_ids"][:, start : start + length]).logits[0]
            for place in range(length):
                target = wanted.get(start + place, -100)
                if target == -100:
                    continue
                values = logits[place].tolist()
                loss = math.log(sum(math.exp(value) for value in values)) - values[target]
                piece = tokenizer.id_to_token(target)
                size = 1 if piece.startswith("<0x") else len(piece.replace("▁", " ").encode())
                scores.append((loss, values[target] == max(values), size))
            start += length
    model.config._attn_implementation = attention.NAME
    return scores


def test_metrics_are_those_of_the_reference(corpus: Corpus, model: Any) -> None:
    scores = {source: scored_one_by_one(corpus, model, source) for source in SAMPLES}
    found = evaluated(corpus, model, 2, Objective()).metrics
    by_domain = {}
    for domain, part in scores.items():
        losses, hits, sizes = (np.array(column, float) for column in zip(*part, strict=True))
        bits = losses.sum() / math.log(2) / sizes.sum()
        by_domain[domain] = (losses.mean(), hits.mean(), bits)
        assert found[f"loss_by_domain/{domain}"] == pytest.approx(losses.mean(), rel=1e-5)
        assert found[f"accuracy_by_domain/{domain}"] == pytest.approx(hits.mean())
        assert found[f"bits_per_byte_by_domain/{domain}"] == pytest.approx(bits, rel=1e-5)
    everything = [score for part in scores.values() for score in part]
    losses, hits, sizes = (np.array(column, float) for column in zip(*everything, strict=True))
    macro = np.mean([*by_domain.values()], axis=0)
    assert found["loss/valid"] == pytest.approx(losses.mean(), rel=1e-5)
    assert found["loss/valid_macro"] == pytest.approx(macro[0], rel=1e-5)
    assert found["eval/accuracy"] == pytest.approx(hits.mean())
    assert found["eval/bits_per_byte"] == pytest.approx(
        losses.sum() / math.log(2) / sizes.sum(), rel=1e-5
    )
    assert found["eval/bits_per_byte_macro"] == pytest.approx(macro[2], rel=1e-5)


def test_neither_the_training_objective_nor_the_split_matters(corpus: Corpus, model: Any) -> None:
    once = evaluated(corpus, model, 2, Objective())
    span = Objective(unit="span", mask_share=0.5, replace_by_mask=1.0, replace_by_random=0.0)
    again = evaluated(corpus, model, 5, span)
    assert again.metrics == pytest.approx(once.metrics, rel=1e-6)
    assert once.score == -once.metrics["loss/valid_macro"]


def test_sources_without_validation_samples_are_left_out(corpus: Corpus, model: Any) -> None:
    facts = corpus.sources["plants"]
    empty = {**facts.splits, "valid": {**facts.splits["valid"], "num_samples": 0}}
    corpus.sources["plants"] = replace(facts, splits=empty)
    try:
        found = evaluated(corpus, model, 2, Objective()).metrics
    finally:
        corpus.sources["plants"] = facts
    assert "loss_by_domain/ships" in found
    assert "loss_by_domain/plants" not in found
    assert found["loss/valid"] == found["loss/valid_macro"]
