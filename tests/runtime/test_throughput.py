"""The meter with a clock that the test moves by hand."""

import json
import os
from pathlib import Path

import psutil
import pytest
import torch

from runtime import processes, throughput
from runtime.throughput import GIB, PARTS, Peak, Throughput


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def shares(metrics: dict[str, float]) -> dict[str, float]:
    """The shares that are not zero."""
    found = {part: metrics[f"perf/share_{part}"] for part in PARTS}
    return {part: share for part, share in found.items() if share}


def test_speed_waiting_and_mfu_by_hand() -> None:
    clock = Clock()
    meter = Throughput(peak=Peak(1e10, is_measured=True), clock=clock)
    for _ in range(4):
        with meter.waiting():
            clock.now += 0.5
        clock.now += 1.5
        meter.count(tokens=1000, flops=6e9, slots=1250)
    metrics = meter.read()
    assert metrics["perf/tokens_per_second"] == pytest.approx(500.0)  # 4000 in 8 s
    assert metrics["perf/tokens_per_second_per_rank"] == pytest.approx(500.0)  # one rank
    assert metrics["perf/seconds_per_step"] == pytest.approx(2.0)
    assert metrics["perf/data_wait_share"] == pytest.approx(0.25)
    assert metrics["perf/mfu"] == pytest.approx(0.3)  # 24e9 / 8 / 1e10
    assert metrics["data/packing_efficiency"] == pytest.approx(0.8)


def test_every_second_belongs_to_one_part() -> None:
    clock = Clock()
    meter = Throughput(clock=clock)
    with meter.waiting():
        clock.now += 1.0
    clock.now += 10.0  # of which the engine says:
    seconds = {"forward": 2.0, "backward": 4.0, "communication": 1.0, "optimizer": 2.0}
    meter.count(tokens=600, seconds=seconds)
    for part, duration in (("evaluation", 5.0), ("hooks", 3.0), ("checkpoint", 1.0)):
        with meter.excluded(part):
            clock.now += duration
    metrics = meter.read()
    assert shares(metrics) == pytest.approx(
        {
            "data_wait": 0.05,
            "forward": 0.1,
            "backward": 0.2,
            "communication": 0.05,
            "optimizer": 0.1,
            "evaluation": 0.25,
            "hooks": 0.15,
            "checkpoint": 0.05,
            "other": 0.05,
        }
    )
    assert sum(shares(metrics).values()) == pytest.approx(1.0)
    assert metrics["perf/window_seconds"] == pytest.approx(20.0)


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
    for absent in ("perf/seconds_per_step", "perf/mfu", "perf/checkpoint_seconds"):
        assert absent not in metrics


def test_checkpoints_are_reported_and_kept_exactly(tmp_path: Path) -> None:
    clock = Clock()
    meter = Throughput(tmp_path, peak=Peak(2e12, is_measured=False), clock=clock)
    for step, size in ((4, 1 << 20), (8, 3 << 20)):
        clock.now += 3.0
        meter.count(tokens=100, flops=5.0, slots=200)
        with meter.excluded("checkpoint"):
            clock.now += 1.0
        meter.saved(size, step)
    metrics = meter.read()
    assert metrics["perf/checkpoint_seconds"] == pytest.approx(1.0)
    assert metrics["perf/checkpoint_gib"] == pytest.approx(2 / 1024)
    (start,) = json.loads((tmp_path / throughput.FILE).read_text())["starts"]
    assert (start["first_step"], start["last_step"], start["ranks"]) == (1, 8, 1)
    assert (start["steps"], start["tokens"], start["slots"], start["flops"]) == (2, 200, 400, 10.0)
    assert (start["checkpoints"], start["checkpoint_bytes"]) == (2, 4 << 20)
    assert start["peak"] == {"flops": 2e12, "is_measured": False}
    assert start["seconds"] == pytest.approx(8.0)
    assert sum(start["parts"].values()) == pytest.approx(8.0)


def test_each_start_has_its_entry_and_no_step_is_in_two(tmp_path: Path) -> None:
    for start_step, steps in ((0, (4, 8)), (8, (12,)), (4, (6,)), (6, (9,))):
        meter = Throughput(tmp_path, start_step)
        for step in steps:
            meter.saved(1, step)
    starts = json.loads((tmp_path / throughput.FILE).read_text())["starts"]
    assert [(start["first_step"], start["last_step"]) for start in starts] == [(5, 6), (7, 9)]


def test_a_given_peak_is_of_one_device() -> None:
    assert throughput.peak(1.5, "bf16") == Peak(1.5e12, is_measured=False)


def test_a_measured_peak_leaves_the_generators_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(throughput, "PEAK_SIZE", {"cpu": 128, "cuda": 128})
    monkeypatch.setattr(throughput, "PEAK_BLOCK_SECONDS", 0.01)
    before = torch.get_rng_state()
    found = throughput.peak(None, "fp32")
    assert found.is_measured
    assert 1e8 < found.flops < 1e15
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize(("bf16", "is_told"), [(80e9, True), (400e9, False)])
def test_a_cpu_without_bf16_products_is_told(
    bf16: float,
    is_told: bool,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    speeds = {torch.bfloat16: bf16, torch.float32: 160e9}
    monkeypatch.setattr(throughput, "measured_peak", lambda device, dtype: speeds[dtype])
    assert throughput.peak(None, "bf16") == Peak(bf16, is_measured=True)
    said = 'at 80 GFLOP/s in bf16 and at 160 in fp32; engine.precision = "fp32" is faster here'
    assert (said in caplog.text) == is_told


def test_memory_is_this_process() -> None:
    before = psutil.Process(os.getpid()).memory_info().rss / GIB
    metrics = Throughput().read()
    assert metrics["mem/resident_gib"] == pytest.approx(before, rel=0.5)
    assert ("mem/device_peak_gib" in metrics) == processes.uses_cuda()
