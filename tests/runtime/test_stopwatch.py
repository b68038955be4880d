"""Every moment of a step belongs to one part."""

from collections.abc import Iterator

import torch

from runtime.collectives import TimedBackend
from runtime.stopwatch import Stopwatch


def ticking(times: list[float]) -> Stopwatch:
    reading: Iterator[float] = iter(times)
    return Stopwatch(torch.device("cpu"), clock=lambda: next(reading))


def test_the_innermost_part_counts() -> None:
    watch = ticking([0.0, 3.0, 3.5, 5.0, 7.0, 7.25])
    watch.start()
    with watch.part("backward"), watch.part("communication"):  # 0 to 3: backward alone
        pass  # to 3.5: communication; to 5: backward again
    with watch.part("optimizer"):  # 7 to 7.25; nothing of the time before
        pass
    assert watch.take() == {
        "forward": 0.0,
        "backward": 4.5,
        "communication": 0.5,
        "optimizer": 0.25,
    }


def test_nothing_counts_between_take_and_start() -> None:
    watch = ticking([0.0, 1.0])
    with watch.part("communication"):  # the clock is not even read
        pass
    watch.start()
    with watch.part("forward"):
        pass
    assert watch.take()["forward"] == 1.0
    with watch.part("communication"):
        pass
    assert sum(watch.take().values()) == 0.0


class Work:
    waited = 0

    def wait(self) -> str:
        self.waited += 1
        return "done"


class Backend:
    world = 2

    def all_reduce(self, value: int, async_op: bool = False) -> Work | None:
        return Work() if async_op else None

    def get_rank(self) -> int:
        return 1


def test_collectives_and_waits_are_timed_and_nothing_else() -> None:
    watch = ticking([0.0, 1.0, 10.0, 11.5, 20.0, 24.0])
    watch.start()
    backend = TimedBackend(Backend(), lambda: watch.part("communication"))
    assert backend.all_reduce(1) is None  # 0 to 1
    work = backend.all_reduce(1, async_op=True)  # 10 to 11.5
    assert work.wait() == "done"  # 20 to 24
    assert work.waited == 1
    assert (backend.get_rank(), backend.world) == (1, 2)
    assert watch.take()["communication"] == 6.5
