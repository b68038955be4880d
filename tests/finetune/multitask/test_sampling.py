"""Which tasks a step trains: shares by hand, every input once, nothing drawn by chance."""

from collections import Counter
from typing import Any

import pytest

from finetune.multitask.sampling import Schedule, shared_out, shares
from finetune.multitask.table import MultiTask


def table(**fields: Any) -> MultiTask:
    found = {"weights": {"ner": 1.0, "topic": 0.5}, "batch_size": 8, "micro_batch_size": 4}
    return MultiTask(**{**found, **fields})


@pytest.mark.parametrize(
    ("sampling", "expected"),
    [
        ("proportional", [0.1, 0.9]),  # 4 : 36
        ("temperature", [0.25, 0.75]),  # 2 : 6
        ("uniform", [0.5, 0.5]),
    ],
)
def test_shares_by_hand(sampling: str, expected: list[float]) -> None:
    assert shares([4, 36], table(sampling=sampling)) == pytest.approx(expected)


def test_a_higher_temperature_brings_tasks_closer() -> None:
    small = [
        shares([4, 36], table(sampling="temperature", temperature=t))[0] for t in (1.0, 2.0, 9.0)
    ]
    assert small[0] == pytest.approx(0.1)
    assert small == sorted(small)
    assert small[-1] < 0.5


def test_inputs_are_shared_out_whole_and_every_task_has_one() -> None:
    assert shared_out(8, [0.5, 0.5]) == (4, 4)
    assert shared_out(8, [0.01, 0.99]) == (1, 7)
    assert shared_out(7, [0.5, 0.3, 0.2]) == (3, 2, 2)  # 1 + 2.0, 1 + 1.2, 1 + 0.8
    assert shared_out(3, [0.9, 0.05, 0.05]) == (1, 1, 1)
    for total in range(3, 40):
        assert sum(shared_out(total, [0.61, 0.3, 0.09])) == total


def test_joint_steps_hold_every_task_and_an_epoch_is_a_pass_over_the_main_one() -> None:
    schedule = Schedule(table(sampling="uniform", epochs=3), (10, 100), seed=0)
    assert schedule.sizes == (4, 4)
    assert schedule.main_steps == 3  # 10 inputs, 4 a step
    assert schedule.total_steps == 9
    assert [schedule.batches(step) for step in (0, 8)] == [[(0, 0), (1, 0)], [(0, 8), (1, 8)]]
    assert schedule.steps_of(1, 9) == 9


def test_alternate_steps_of_an_epoch_are_one_pass_over_every_task_if_proportional() -> None:
    schedule = Schedule(table(steps="alternate", epochs=2), (24, 70), seed=1)
    assert schedule.sizes == (8, 8)
    assert schedule.total_steps == 2 * (3 + 9)
    for epoch in (0, 1):
        tasks = [schedule.batches(12 * epoch + i)[0][0] for i in range(12)]
        assert Counter(tasks) == {0: 3, 1: 9}


def test_every_batch_of_a_task_comes_once_and_in_its_own_order() -> None:
    schedule = Schedule(table(steps="alternate", epochs=3), (24, 70), seed=1)
    found = [schedule.batches(step)[0] for step in range(schedule.total_steps)]
    for task, count in ((0, 9), (1, 27)):
        assert [place for which, place in found if which == task] == list(range(count))
        assert schedule.steps_of(task, schedule.total_steps) == count
    assert schedule.steps_of(0, 12) + schedule.steps_of(1, 12) == 12


def test_shares_of_alternate_steps_are_exact_over_the_run() -> None:
    """3 batches of the main task, sqrt(3) : sqrt(10) of the other: 5.48 an epoch, 27.4 in five."""
    schedule = Schedule(table(steps="alternate", sampling="temperature", epochs=5), (24, 80), 0)
    assert schedule.steps_of(0, schedule.total_steps) == 15
    assert schedule.steps_of(1, schedule.total_steps) == 27


def test_order_depends_on_the_seed_alone_and_differs_by_epoch() -> None:
    def order(seed: int) -> list[int]:
        return list(Schedule(table(steps="alternate", epochs=2), (80, 80), seed).order)

    assert order(1) == order(1)
    assert order(1) != order(2)
    assert order(1)[:20] != order(1)[20:]


def test_steps_past_the_last_go_on() -> None:
    """A run that went back passes over data and takes more of it than it has steps."""
    schedule = Schedule(table(steps="alternate", epochs=1), (24, 70), seed=1)
    assert schedule.total_steps == 12
    again = [schedule.batches(step)[0] for step in range(12, 24)]
    for task, count in ((0, 3), (1, 9)):
        assert [place for which, place in again if which == task] == [*range(count, 2 * count)]
    assert Schedule(table(epochs=1), (24, 70), 1).batches(99) == [(0, 99), (1, 99)]


def test_a_task_of_one_input_beside_a_large_one() -> None:
    joint = Schedule(table(epochs=1), (1000, 1), 0)
    assert joint.sizes == (7, 1)
    alternate = Schedule(table(steps="alternate", epochs=1), (1000, 1), 0)
    assert alternate.steps_of(1, alternate.total_steps) == 1


def test_what_a_table_refuses() -> None:
    with pytest.raises(ValueError, match=r"famo.*every task"):
        table(weighting="famo", steps="alternate")
    with pytest.raises(ValueError, match=r"batch_size \(1\) cannot hold an input of each of 2"):
        table(batch_size=1, micro_batch_size=1)
    with pytest.raises(ValueError, match="at least 2"):
        table(weights={"ner": 1.0})
