"""Batches: a pure function of the step, the same samples whatever the ranks, static shapes."""

from pathlib import Path

import numpy as np
import pytest

from data_prep.mixture import Shares
from data_prep.shards import Corpus
from pretrain.batches import MixtureBatches
from pretrain.config import Objective
from pretrain.masker import Masker
from pretrain.model.objective import IGNORED
from pretrain.plan import check_budget
from runtime.engine import Batch
from runtime.errors import RecipeError


@pytest.fixture(scope="module")
def corpus(prepared: Path) -> Corpus:
    return Corpus(prepared / "run/data")


def batches(corpus: Corpus, rank: int, world_size: int, micro_size: int) -> MixtureBatches:
    masker = Masker(corpus, Objective(), seed=3, first_position=0)
    readers = [corpus.reader(name, "train") for name in corpus.sources]
    return MixtureBatches(
        masker,
        readers,
        Shares((0.5, 0.5), (None, None)),
        Batch(16, micro_size),
        5000,
        rank,
        world_size,
    )


def flat_ids(parts: list[MixtureBatches], step: int) -> set[bytes]:
    """The masked samples of a step, as a set of rows."""
    rows = [
        row.tobytes()
        for part in parts
        for micro in part.micro_batches(step)
        for row in micro.inputs["input_ids"].numpy().reshape(-1, 64)
    ]
    assert len(rows) == 16
    return set(rows)


def test_steps_cover_the_tokens_asked_for(corpus: Corpus) -> None:
    assert batches(corpus, 0, 1, 4).total_steps == 5  # 5 x 16 x 64 = 5120 >= 5000


def test_a_step_holds_the_same_masked_samples_for_any_split(corpus: Corpus) -> None:
    for step in (0, 7):
        one = flat_ids([batches(corpus, 0, 1, 4)], step)
        assert flat_ids([batches(corpus, rank, 2, 8) for rank in range(2)], step) == one
        assert flat_ids([batches(corpus, rank, 4, 2) for rank in range(4)], step) == one


def test_shapes_are_static_and_targets_are_the_original_tokens(corpus: Corpus) -> None:
    source = batches(corpus, 0, 1, 4)
    shapes = {
        tuple(
            (name, tuple(value.shape)) for name, value in micro.inputs.items() if name != "segments"
        )
        for step in range(4)
        for micro in source.micro_batches(step)
    }
    assert len(shapes) == 1
    micro = source.micro_batches(0)[0]
    targets = micro.inputs["targets"].numpy()
    assert (targets[: micro.num_targets] != IGNORED).all()
    assert (targets[micro.num_targets :] == IGNORED).all()


def test_positions_restart_with_every_segment(corpus: Corpus) -> None:
    micro = batches(corpus, 0, 1, 4).micro_batches(0)[0]
    boundaries = micro.inputs["segments"].boundaries.numpy()
    position_ids = micro.inputs["position_ids"].numpy()[0]
    assert boundaries[0] == 0
    assert boundaries[-1] == 4 * 64
    assert (position_ids[boundaries[:-1]] == 0).all()
    assert (np.diff(position_ids)[np.diff(position_ids) != 1] < 0).all()
    first = micro.inputs["input_ids"].numpy()[0, boundaries[:-1]]
    cls_id, pad_id = corpus.tokenizer.cls_id, corpus.tokenizer.pad_id
    assert set(first.tolist()) <= {cls_id, pad_id}


def test_a_budget_past_the_end_of_the_mixture_is_refused() -> None:
    shares = Shares((0.5, 0.5), (100, 28))  # samples
    check_budget(shares, steps=8, global_batch_size=16)
    with pytest.raises(RecipeError, match=r"needs 144 samples .* give 128; .* at most 8 steps"):
        check_budget(shares, steps=9, global_batch_size=16)
    check_budget(Shares((0.5, 0.5), (100, None)), steps=9, global_batch_size=16)
