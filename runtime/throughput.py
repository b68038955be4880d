"""How fast training runs and what memory it holds, over the window since the last reading.

`tokens` are real tokens (padding excluded) of all ranks together, so that `perf/tokens_per_second`
is the speed of the run and not of one rank. MFU is tokens per second times the floating-point
operations a token needs, over the peak of all devices together. Time inside `excluded()`
(evaluation, checkpoints) is left out of the window; time inside `waiting()` counts and is also
reported as a share.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import psutil
import torch

GIB = 1 << 30


class Throughput:
    """Meter of one run; `read` gives the metrics since the last `read`."""

    def __init__(
        self,
        flops_per_token: float | None = None,  # forward and backward
        peak_flops: float | None = None,  # per second, all devices of the run together
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.flops_per_token = flops_per_token
        self.peak_flops = peak_flops
        self.clock = clock
        self.process = psutil.Process()
        self.restart()

    def restart(self) -> None:
        """Begin a new window."""
        self.started = self.clock()
        self.tokens = 0
        self.steps = 0
        self.waited_seconds = 0.0
        self.excluded_seconds = 0.0

    def count(self, tokens: int, seconds: Mapping[str, float] | None = None) -> None:
        """Add one step, the tokens of all ranks in it, and the seconds of its parts."""
        self.tokens += tokens
        self.steps += 1

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Time spent here waited for data."""
        before = self.clock()
        try:
            yield
        finally:
            self.waited_seconds += self.clock() - before

    @contextmanager
    def excluded(self) -> Iterator[None]:
        """Time spent here is no training."""
        before = self.clock()
        try:
            yield
        finally:
            self.excluded_seconds += self.clock() - before

    def read(self) -> dict[str, float]:
        """The metrics of the window, then begin a new one; waits for no device."""
        seconds = max(self.clock() - self.started - self.excluded_seconds, 1e-9)
        tokens_per_second = self.tokens / seconds
        metrics = {
            "perf/tokens_per_second": tokens_per_second,
            "perf/data_wait_share": min(self.waited_seconds / seconds, 1.0),
            **self.memory(),
        }
        if self.steps:
            metrics["perf/seconds_per_step"] = seconds / self.steps
        if self.flops_per_token and self.peak_flops:
            metrics["perf/mfu"] = tokens_per_second * self.flops_per_token / self.peak_flops
        self.restart()
        return metrics

    def memory(self) -> dict[str, float]:
        """Memory of this process in GiB: resident now; on CUDA also the device's peak since the
        last call."""
        metrics = {"mem/resident_gib": self.process.memory_info().rss / GIB}
        if torch.cuda.is_available():
            metrics["mem/device_peak_gib"] = torch.cuda.max_memory_allocated() / GIB
            torch.cuda.reset_peak_memory_stats()
        return metrics
