"""Batches: every window once an epoch, the same ones for any number of ranks, little padding."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from finetune import batches
from finetune.batches import LabelledBatches, epoch_batches
from finetune.collate import blank, collate, length_groups, split_outputs
from finetune.task import IGNORED, Window
from runtime import processes


def window(row: int, length: int, num_targets: int = 1, is_pair: bool = False) -> Window:
    return Window(
        row=row,
        input_ids=np.full(length, row + 5, dtype=np.int32),
        token_type_ids=np.ones(length, dtype=np.int32) if is_pair else None,
        positions=np.arange(num_targets),
        targets=np.zeros(num_targets, dtype=np.int64),
        words=np.arange(num_targets),
    )


def inputs(windows: Sequence[Window]) -> dict[str, Any]:
    """Padded arrays in place of an objective's inputs."""
    return dict(collate(windows, "token", 0))


def test_collate_by_hand() -> None:
    found = collate([window(0, 3, 2), window(1, 2, 1)], "token", pad_id=9)
    assert found["input_ids"].tolist() == [[5, 5, 5], [6, 6, 9]]
    assert found["attention_mask"].tolist() == [[1, 1, 1], [1, 1, 0]]
    assert found["positions"].tolist() == [0, 1, 3]
    assert found["targets"].tolist() == [0, 0, 0]
    pair = collate([window(0, 3, is_pair=True), window(1, 2, is_pair=True)], "sequence", 9)
    assert pair["positions"].tolist() == [0, 1]
    assert pair["token_type_ids"].tolist() == [[1, 1, 1], [1, 1, 0]]


def test_a_blank_window_scores_nothing() -> None:
    found = collate([blank(window(0, 3, 2))], "token", 9)
    assert found["input_ids"].shape == (1, 1)
    assert len(found["positions"]) == len(found["targets"]) == 0


def test_outputs_go_back_to_their_windows() -> None:
    parts = split_outputs(np.arange(6).reshape(3, 2), [window(0, 3, 2), window(1, 2, 1)])
    assert [part.tolist() for part in parts] == [[[0, 1], [2, 3]], [[4, 5]]]


def test_length_groups_hold_every_index_within_their_budget() -> None:
    lengths = np.random.default_rng(0).integers(1, 60, size=200).tolist()
    groups = length_groups(lengths, 128)
    assert sorted(i for group in groups for i in group) == list(range(200))
    assert all(len(g) * max(lengths[i] for i in g) <= 128 for g in groups)
    assert length_groups([500], 128) == [[0]]


@pytest.mark.parametrize(("count", "size"), [(100, 8), (7, 8), (8, 8), (129, 16)])
def test_an_epoch_takes_every_window_once(count: int, size: int) -> None:
    lengths = np.random.default_rng(1).integers(2, 50, size=count)
    for epoch in range(3):
        found = epoch_batches(lengths, size, seed=4, epoch=epoch)
        assert sorted(np.concatenate(found).tolist()) == list(range(count))
        assert len(found) == -(-count // size)
        assert all(len(batch) <= size for batch in found)


def test_order_depends_on_seed_and_epoch_only() -> None:
    lengths = np.arange(40)

    def order(seed: int, epoch: int) -> list[list[int]]:
        return [batch.tolist() for batch in epoch_batches(lengths, 8, seed, epoch)]

    assert order(1, 2) == order(1, 2)
    assert order(1, 2) != order(1, 3)
    assert order(1, 2) != order(2, 2)


def test_buckets_need_little_padding() -> None:
    lengths = np.random.default_rng(2).integers(5, 100, size=1000)
    found = epoch_batches(lengths, 16, 0, 0)
    padded = sum(len(batch) * lengths[batch].max() for batch in found)
    assert lengths.sum() / padded > 0.9
    plain = np.random.default_rng(3).permutation(1000)[:992].reshape(-1, 16)
    assert lengths[plain].sum() / (16 * lengths[plain].max(axis=1).sum()) < 0.6


@pytest.mark.parametrize("world", [1, 2, 4])
def test_ranks_share_a_step_out(world: int, monkeypatch: pytest.MonkeyPatch) -> None:
    windows = [window(i, 3 + i % 5) for i in range(21)]
    seen: list[list[int]] = []
    monkeypatch.setattr(processes, "world_size", lambda: world)
    for rank in range(world):
        monkeypatch.setattr(processes, "rank", lambda rank=rank: rank)
        made = LabelledBatches(windows, inputs, 8, 4 // world, 2, seed=3)
        assert made.total_steps == 6
        for step in range(made.total_steps):
            micro = made.micro_batches(step)
            assert len(micro) == 4 // world
            seen += [[step, *m.inputs["input_ids"][:, 0].tolist()] for m in micro if m.num_targets]
            for m in micro:
                assert m.num_tokens == int(m.inputs["attention_mask"].sum()) or not m.num_targets
    by_step = {
        step: sorted(i - 5 for row in seen if row[0] == step for i in row[1:]) for step in range(6)
    }
    wanted = [
        epoch_batches(np.array([len(w.input_ids) for w in windows]), 8, 3, epoch)
        for epoch in range(2)
    ]
    assert by_step == {
        3 * epoch + i: sorted(batch.tolist())
        for epoch in range(2)
        for i, batch in enumerate(wanted[epoch])
    }


def test_parts_of_a_step_have_about_the_same_tokens() -> None:
    windows = [window(i, 3 + i) for i in range(64)]
    made = LabelledBatches(windows, inputs, 32, 4, 1, seed=3)
    for step in range(made.total_steps):
        sizes = [micro.num_tokens for micro in made.micro_batches(step)]
        assert max(sizes) / min(sizes) < 1.25


def test_targets_that_are_ignored_are_not_counted() -> None:
    unknown = window(0, 3)
    unknown.targets[:] = IGNORED
    made = LabelledBatches([unknown, window(1, 3)], inputs, 2, 1, 1, seed=0)
    assert made.micro_batches(0)[0].num_targets == 1
    assert batches.POOL > 1


def test_the_rows_of_a_step_are_named_on_every_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "world_size", lambda: 2)
    made = LabelledBatches([window(row, 3 + row) for row in range(6)], inputs, 4, 2, 2, seed=1)
    for step in range(made.total_steps):
        rows = []
        for rank in range(2):
            monkeypatch.setattr(processes, "rank", lambda rank=rank: rank)
            for micro in made.micro_batches(step):
                ids = micro.inputs["input_ids"].tolist() if micro.num_tokens else []  # not blanks
                rows += [row[0] - 5 for row in ids]
        named = made.documents(step)
        assert sorted(named) == sorted(f"row {row} ({3 + row} tokens)" for row in rows)
    assert [made.share_done(step) for step in (0, 1, 4, 5)] == [0.0, 0.25, 1.0, 1.0]
