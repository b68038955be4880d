"""What the heartbeat thread reads of the main thread."""

import pytest

from runtime.watchdog.activity import END, START, Activity, percentile


def test_a_step_is_followed() -> None:
    doing = Activity()
    assert (doing.phases, doing.step) == (("start",), 0)
    doing.begin_step(7)
    with doing.inside("backward"), doing.collective("all_reduce"):
        assert doing.phases == ("step", "backward", "communication")
        with doing.inside("communication"):  # its wait is no part of its own
            assert doing.phases == ("step", "backward", "communication")
        assert (doing.collectives, doing.operation) == (1, "all_reduce")
    doing.end_step()
    assert (doing.step, doing.begun, doing.phases) == (7, 1, ("step",))
    doing.begin_step(8)
    assert (doing.begun, doing.collectives) == (2, 0)
    doing.begin(END)
    assert doing.phases == ("end",)


def test_whatever_happens_is_progress() -> None:
    doing, seen = Activity(), [0]
    doing.begin(START)
    seen.append(doing.progress)
    doing.begin_step(1)
    seen.append(doing.progress)
    with doing.inside("forward"):
        seen.append(doing.progress)
        doing.tick()
        seen.append(doing.progress)
    seen.append(doing.progress)
    doing.end_step()
    seen.append(doing.progress)
    assert seen == sorted(set(seen))


def test_a_part_that_fails_is_left() -> None:
    doing = Activity()
    with pytest.raises(ValueError), doing.inside("forward"), doing.collective("barrier"):
        raise ValueError
    assert doing.phases == ("start",)


def test_the_first_steps_are_unusual_and_then_forgotten() -> None:
    doing = Activity()
    for seconds in [60.0, 30.0, *[1.0] * 7]:
        doing.begin_step(1)
        doing.end_step()
        doing.seconds[-1] = seconds
        assert doing.p99_seconds == 60.0
    assert doing.is_settled
    doing.begin_step(1)
    doing.end_step()
    doing.seconds[-1] = 2.0
    assert doing.p99_seconds == 2.0
    doing.begin(START)  # another engine
    assert not doing.is_settled
    assert doing.p99_seconds == 0.0


def test_what_follows_a_step_is_not_in_its_duration() -> None:
    doing = Activity()
    doing.begin_step(1)
    doing.end_step()
    doing.end_step()  # the engine is asked for its seconds again
    assert len(doing.seconds) == 1


def test_percentile() -> None:
    values = [float(n) for n in range(1, 201)]
    assert percentile(values, 0.99) == 198.0
    assert percentile([3.0], 0.99) == 3.0
    assert percentile([], 0.99) == 0.0
