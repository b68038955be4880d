"""Laying out rows: padding, segments, targets."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from data_prep.shards import Corpus, Rows
from pretrain.config import Objective
from pretrain.masker import Masker, vocabulary, with_padding
from pretrain.masking import sample_keys
from pretrain.model.objective import IGNORED


@pytest.fixture(scope="module")
def corpus(prepared: Path) -> Corpus:
    return Corpus(prepared / "run/data")


def test_padding_is_a_segment_of_its_own() -> None:
    rows = Rows(
        tokens=np.zeros((3, 8), np.uint16),
        lengths=np.array([3, 2, 8, 5], np.int32),
        counts=np.array([2, 1, 1]),
        documents=np.zeros(4, np.uint64),
    )
    assert with_padding(rows, 8).tolist() == [3, 2, 3, 8, 5, 3]


@pytest.mark.parametrize("unit", ["token", "word", "span"])
def test_shapes_are_the_same_at_every_share(corpus: Corpus, unit: str) -> None:
    objective = Objective.model_validate(
        {"unit": unit, "mask_share": 0.4, "mask_share_end": 0.2, "mean_span_words": 2.0}
    )
    masker = Masker(corpus, objective, seed=3, first_position=2)
    rows = corpus.reader("plants", "train").gather(np.arange(6))
    zeros = np.zeros(6, np.int64)
    keys = sample_keys(3, zeros, zeros, np.arange(6))
    batches = [masker.micro_batch(rows, keys, progress) for progress in (0.0, 0.5, 1.0)]
    counts = [batch.num_targets for batch in batches]
    is_text = ~np.isin(rows.tokens, corpus.tokenizer.special_ids)
    for share, count, batch in zip((0.4, 0.3, 0.2), counts, batches, strict=True):
        budget = int(np.floor(share * is_text.sum(axis=1)).sum())
        assert budget - (unit != "token") * 6 <= count <= budget
        targets = batch.inputs["targets"].numpy()
        assert len(targets) == len(batch.inputs["positions"]) == 6 * int(0.4 * 64)
        assert (targets[count:] == IGNORED).all()
        tokens = rows.tokens.reshape(-1)[batch.inputs["positions"].numpy()[:count]]
        assert np.array_equal(tokens, targets[:count])
        assert batch.inputs["position_ids"].min() == 2


def test_the_vocabulary_is_read_once(corpus: Corpus) -> None:
    known = vocabulary(corpus.tokenizer)
    assert vocabulary(replace(corpus.tokenizer)) is known
    assert known.is_special.sum() == len(corpus.tokenizer.special_ids)
    assert not known.is_special[known.replacements].any()
    assert known.bounds.begins[known.replacements].any()
    assert not known.bounds.begins[known.replacements].all()
