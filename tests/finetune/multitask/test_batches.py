"""What a step's micro batches add up to, whoever computes which of them."""

from collections import Counter
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from finetune.multitask import batches as batching
from finetune.multitask.batches import MultiTaskBatches, TaskBatches, agree
from finetune.multitask.objective import Together
from finetune.multitask.prepare import Several, prepare, sizes
from finetune.multitask.sampling import Schedule
from pretrain.micro_batch import MicroBatch
from runtime import processes
from runtime.errors import DataError
from tests.finetune.multitask.conftest import loaded

WEIGHTS = [0.7, 0.2]


def batches_of(several: Several, together: Together, micro: int, seed: int = 0) -> MultiTaskBatches:
    schedule = Schedule(several.table, sizes(several.tasks), seed)
    tasks = [
        TaskBatches(
            task.name, task.encoded["train"].windows, together.part(task.name),
            schedule.sizes[number], micro, seed + number,
        )
        for number, task in enumerate(several.tasks)
    ]  # fmt: skip
    return MultiTaskBatches(tasks, schedule, lambda: WEIGHTS)


@pytest.fixture
def as_rank(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, int], None]:
    """Be one of so many ranks, as far as sharing out goes."""

    def become(rank: int, world: int) -> None:
        monkeypatch.setattr(processes, "rank", lambda: rank)
        monkeypatch.setattr(processes, "world_size", lambda: world)
        monkeypatch.setattr(batching, "agree", lambda step, told: None)

    return become


def of_all_ranks(
    make: Callable[[], MultiTaskBatches], become: Callable[[int, int], None], world: int, step: int
) -> list[list[MicroBatch]]:
    found = []
    for rank in range(world):
        become(rank, world)
        found.append(make().micro_batches(step))
    return found


@pytest.mark.parametrize("steps", ["joint", "alternate"])
@pytest.mark.parametrize(("world", "micro"), [(1, 8), (1, 3), (2, 2), (3, 1)])
def test_a_step_is_the_weighted_sum_of_mean_losses(
    folder: Path,
    together: Together,
    as_rank: Callable[[int, int], None],
    steps: str,
    world: int,
    micro: int,
) -> None:
    """The loop divides the sum of all micro batches by all targets of the step."""
    several = prepare(loaded(folder, f'multitask.both.steps="{steps}"'), "both")
    for step in (0, 2):
        ranks = of_all_ranks(lambda: batches_of(several, together, micro), as_rank, world, step)
        told = [[m.inputs["task"] for m in micro_batches] for micro_batches in ranks]
        assert told == [told[0]] * world  # the same tasks in the same order
        together.train()
        found = [m for micro_batches in ranks for m in micro_batches]
        total = sum(m.num_targets for m in found)
        with torch.no_grad():
            loss = sum(together(**m.inputs)[0].item() for m in found) / total
            together.eval()
            expected = 0.0
            for number, task in enumerate(several.tasks):
                mine = [m for m in found if m.inputs["task"] == task.name]
                count = sum(m.num_targets for m in mine)
                if count:
                    mean = sum(together(**m.inputs)[0].item() for m in mine) / count
                    expected += WEIGHTS[number] * mean / several.norms[number]
        assert loss == pytest.approx(expected, rel=1e-5)
        assert max(m.inputs["lengths"].numel() for m in found) <= micro


def test_ranks_share_a_step_and_lose_nothing(
    several: Several, together: Together, as_rank: Callable[[int, int], None]
) -> None:
    as_rank(0, 1)
    whole = batches_of(several, together, 4)
    expected = Counter(ids(whole.micro_batches(1)))
    ranks = of_all_ranks(lambda: batches_of(several, together, 1), as_rank, 3, 1)
    rows = together.part("people").rows
    assert rows is not None
    cls = int(rows.lookup[2])
    blank = ("people", (cls,)), ("reviews", (cls,))
    assert Counter(key for each in ranks for key in ids(each) if key not in blank) == expected
    assert sum(expected.values()) == 8


def ids(micro_batches: Sequence[MicroBatch]) -> list[tuple[str, tuple[int, ...]]]:
    """The task and tokens of every window."""
    found = []
    for m in micro_batches:
        bounds = m.inputs["segments"].boundaries.tolist()
        row = m.inputs["input_ids"][0].tolist()
        found += [(m.inputs["task"], tuple(row[a:b])) for a, b in pairwise(bounds) if b > a]
    return found


def test_a_pass_takes_every_row_of_every_task_once(several: Several, together: Together) -> None:
    """20 and 40 rows, proportional, alternately: an epoch is a pass over both."""
    table = several.table.model_copy(update={"steps": "alternate", "epochs": 1})
    alternate = Several(several.name, table, several.encoder, several.tasks)
    batches = batches_of(alternate, together, 4)
    assert batches.total_steps == 3 + 5
    rows = Counter(row.split(" (")[0] for step in range(8) for row in batches.documents(step))
    assert set(rows.values()) == {1}
    assert Counter(row.split()[0] for row in rows) == {"people": 20, "reviews": 40}
    assert [batches.share_done(step) for step in (0, 4, 8, 9)] == [0.0, 0.5, 1.0, 1.0]


def test_a_task_without_known_targets_in_a_step_counts_nothing(
    several: Several, together: Together, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches = batches_of(several, together, 4)
    monkeypatch.setattr(batches.tasks[1], "counts", batches.tasks[1].counts * 0)
    scales = {m.inputs["task"]: m.inputs["scale"].item() for m in batches.micro_batches(0)}
    assert scales == pytest.approx({"people": WEIGHTS[0], "reviews": 0.0})


def test_ranks_that_disagree_are_told_what_each_would_do(monkeypatch: pytest.MonkeyPatch) -> None:
    agree(0, "anything")  # alone
    monkeypatch.setattr(processes, "world_size", lambda: 2)
    monkeypatch.setattr(processes, "sum_over_ranks", lambda values: [2 * v for v in values])
    agree(0, "people x 2")
    monkeypatch.setattr(processes, "sum_over_ranks", lambda values: [v + 5.0 for v in values])
    monkeypatch.setattr(processes, "gather", lambda told: [told, "reviews x 2"])
    with pytest.raises(DataError, match=r"step 8 \(rank 0: people x 2; rank 1: reviews x 2\)"):
        agree(7, "people x 2")
