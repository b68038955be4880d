"""The meter with a clock that the test moves by hand."""

import os

import psutil
import pytest
import torch

from runtime.throughput import GIB, Throughput


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_speed_waiting_and_mfu_by_hand() -> None:
    clock = Clock()
    meter = Throughput(flops_per_token=6e6, peak_flops=1e10, clock=clock)
    for _ in range(4):
        with meter.waiting():
            clock.now += 0.5
        clock.now += 1.5
        meter.count(tokens=1000)
    metrics = meter.read()
    assert metrics["perf/tokens_per_second"] == pytest.approx(500.0)  # 4000 in 8 s
    assert metrics["perf/seconds_per_step"] == pytest.approx(2.0)
    assert metrics["perf/data_wait_share"] == pytest.approx(0.25)
    assert metrics["perf/mfu"] == pytest.approx(0.3)  # 500 * 6e6 / 1e10


def test_evaluation_does_not_count_as_training() -> None:
    clock = Clock()
    meter = Throughput(clock=clock)
    clock.now += 2.0
    meter.count(tokens=600)
    with meter.excluded():
        clock.now += 100.0
    clock.now += 1.0
    assert meter.read()["perf/tokens_per_second"] == pytest.approx(200.0)


def test_time_is_counted_when_the_block_raises() -> None:
    clock = Clock()
    meter = Throughput(clock=clock)

    def fail_after_three_seconds() -> None:
        with meter.waiting():
            clock.now += 3.0
            raise StopIteration

    with pytest.raises(StopIteration):
        fail_after_three_seconds()
    clock.now += 1.0
    assert meter.read()["perf/data_wait_share"] == pytest.approx(0.75)


def test_every_reading_begins_a_new_window() -> None:
    clock = Clock()
    meter = Throughput(clock=clock)
    clock.now += 1.0
    meter.count(tokens=50)
    meter.read()
    clock.now += 1.0
    metrics = meter.read()
    assert metrics["perf/tokens_per_second"] == 0.0
    assert "perf/seconds_per_step" not in metrics
    assert "perf/mfu" not in metrics


def test_memory_is_this_process() -> None:
    before = psutil.Process(os.getpid()).memory_info().rss / GIB
    metrics = Throughput().read()
    assert metrics["mem/resident_gib"] == pytest.approx(before, rel=0.5)
    assert ("mem/device_peak_gib" in metrics) == torch.cuda.is_available()
