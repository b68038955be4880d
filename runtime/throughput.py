"""How fast training runs, what its time goes into, and what memory it holds.

Tokens are real tokens (padding excluded) of all ranks together, so that `perf/tokens_per_second` is
the speed of the run. Every second of a window belongs to one part, named in PARTS; `perf/share_*`
sum to 1. Speed and MFU leave out what is no training: evaluation, hooks (exports, probes) and
checkpoints. MFU is the floating-point operations that the model needs for the window's own tokens
and segments, over the seconds of training and the peak of all devices.

`throughput.json` in the folder of the stage holds the same sums exactly, one entry a start, up to
that start's newest checkpoint: what was lost with a killed run is not in it. Times are those of
rank 0; what it waits for other ranks is communication or `other`.
"""

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

import psutil
import torch

from runtime import processes, provenance
from runtime.watchdog.activity import activity

log = logging.getLogger("textmill")
GIB = 1 << 30
FILE = "throughput.json"
NOT_TRAINING = ("evaluation", "hooks", "checkpoint")
PARTS = ("data_wait", "forward", "backward", "communication", "optimizer", *NOT_TRAINING, "other")
PEAK_BLOCKS = 4  # the fastest counts
PEAK_BLOCK_SECONDS = 0.1  # long against a time slice: ranks that share a core slow each other
PEAK_SIZE = {"cpu": 1024, "cuda": 8192}  # rows and columns of the matrices multiplied
SLOWER_IN_BF16 = 1.2  # fp32 over bf16 from which a run is told to use fp32
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


@dataclass(frozen=True)
class Peak:
    """The most floating-point operations a second that the devices of a run do together."""

    flops: float
    is_measured: bool  # by matrix products at the start; otherwise given in the recipe


@dataclass
class Sums:
    """What was done and how long its parts took."""

    steps: int = 0
    tokens: int = 0  # real ones of all ranks
    slots: int = 0  # tokens of all ranks, padding included
    flops: float = 0.0  # that the model needs, all ranks
    seconds: float = 0.0  # of everything
    parts: dict[str, float] = field(default_factory=lambda: dict.fromkeys(PARTS, 0.0))
    checkpoints: int = 0
    checkpoint_bytes: int = 0  # all ranks

    def add(self, other: "Sums") -> "Sums":
        """The sums of both."""
        parts = {part: self.parts[part] + other.parts[part] for part in PARTS}
        names = ("steps", "tokens", "slots", "flops", "seconds", "checkpoints", "checkpoint_bytes")
        return Sums(parts=parts, **{n: getattr(self, n) + getattr(other, n) for n in names})

    @property
    def training_seconds(self) -> float:
        return max(self.seconds - sum(self.parts[part] for part in NOT_TRAINING), 1e-9)


class Throughput:
    """Meter of one start of a run; `read` gives the metrics since the last `read`."""

    def __init__(
        self,
        folder: Path | None = None,  # of the stage, for throughput.json; None: not written
        start_step: int = 0,
        peak: Peak | None = None,  # None: no MFU
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.folder = folder
        self.start_step = start_step
        self.peak = peak
        self.clock = clock
        self.process = psutil.Process()
        self.before = Sums()  # of the windows that were read
        self.restart()

    def restart(self) -> None:
        """Forget the window and begin another."""
        self.started = self.clock()
        self.window = Sums()

    def count(
        self,
        tokens: int,
        seconds: Mapping[str, float] | None = None,
        flops: float = 0.0,
        slots: int = 0,
    ) -> None:
        """Add one step: its tokens, the seconds of its parts on this rank, the operations it needs
        and its tokens with padding; all but the seconds of all ranks."""
        window = self.window
        window.steps += 1
        window.tokens += tokens
        window.slots += slots
        window.flops += flops
        for part, value in (seconds or {}).items():
            window.parts[part] += value

    @contextmanager
    def timing(self, part: str) -> Iterator[None]:
        """Time spent here belongs to a part."""
        before = self.clock()
        try:
            with activity.inside(part):
                yield
        finally:
            self.window.parts[part] += self.clock() - before

    def waiting(self, step: int | None = None) -> AbstractContextManager[None]:
        """Time spent here waited for data, those of a step that begins."""
        if step is not None:
            activity.begin_step(step)
        return self.timing("data_wait")

    def excluded(self, part: str = "evaluation") -> AbstractContextManager[None]:
        """Time spent here is no training: it belongs to a part in NOT_TRAINING."""
        return self.timing(part)

    def saved(self, num_bytes: int, step: int) -> None:
        """Count a checkpoint that was just written and bring throughput.json up to its step."""
        self.window.checkpoints += 1
        self.window.checkpoint_bytes += num_bytes
        if self.folder is not None and processes.rank() == 0:
            write(self.folder, self.entry(step))

    def entry(self, step: int) -> dict[str, object]:
        """What throughput.json says of this start."""
        sums = self.before.add(self.closed(self.window))
        return {
            "first_step": self.start_step + 1,
            "last_step": step,
            "ranks": processes.world_size(),
            "peak": None if self.peak is None else asdict(self.peak),
            **asdict(sums),
        }

    def closed(self, window: Sums) -> Sums:
        """The window as it stands: what no part claims is `other`."""
        seconds = self.clock() - self.started
        parts = dict(window.parts)
        parts["other"] = max(seconds - sum(parts.values()), 0.0)
        # clocks of the parts may overlap by a little
        return Sums(**{**vars(window), "seconds": sum(parts.values()), "parts": parts})

    def read(self) -> dict[str, float]:
        """The metrics of the window, then begin a new one; waits for no device."""
        window = self.closed(self.window)
        self.before = self.before.add(window)
        self.restart()
        return {**self.speed(window), **shares(window), **saving(window), **self.memory()}

    def speed(self, window: Sums) -> dict[str, float]:
        """Tokens and operations over the seconds of training."""
        seconds = window.training_seconds
        metrics = {
            "perf/tokens_per_second": window.tokens / seconds,
            "perf/tokens_per_second_per_rank": window.tokens / seconds / processes.world_size(),
            "perf/data_wait_share": min(window.parts["data_wait"] / seconds, 1.0),
            "perf/window_seconds": window.seconds,
        }
        if window.steps:
            metrics["perf/seconds_per_step"] = seconds / window.steps
        if window.slots:
            metrics["data/packing_efficiency"] = window.tokens / window.slots
        if window.flops and self.peak is not None:
            metrics["perf/mfu"] = window.flops / seconds / self.peak.flops
        return metrics

    def memory(self) -> dict[str, float]:
        """Memory of this process in GiB: resident now; on CUDA also the device's peak since the
        last call."""
        metrics = {"mem/resident_gib": self.process.memory_info().rss / GIB}
        if processes.uses_cuda():
            metrics["mem/device_peak_gib"] = torch.cuda.max_memory_allocated() / GIB
            torch.cuda.reset_peak_memory_stats()
        return metrics


def shares(window: Sums) -> dict[str, float]:
    """The share of every part in the window's time."""
    total = max(window.seconds, 1e-9)
    return {f"perf/share_{part}": seconds / total for part, seconds in window.parts.items()}


def saving(window: Sums) -> dict[str, float]:
    """What the checkpoints of a window cost, if there were any."""
    if not window.checkpoints:
        return {}
    return {
        "perf/checkpoint_seconds": window.parts["checkpoint"] / window.checkpoints,
        "perf/checkpoint_gib": window.checkpoint_bytes / window.checkpoints / GIB,
    }


def write(folder: Path, entry: Mapping[str, object]) -> None:
    """Put the entry of this start behind those of the starts whose steps it did not repeat."""
    path = folder / FILE
    found = provenance.read_json(path)["starts"] if path.is_file() else []
    kept = [start for start in found if start["last_step"] < entry["first_step"]]
    provenance.write_json(path, {"starts": [*kept, entry]})


def peak(given_tflops: float | None, precision: str) -> Peak:
    """The peak of all ranks' devices; measured on all at once unless given for one. All ranks call
    it."""
    if given_tflops is not None:
        return Peak(given_tflops * 1e12 * processes.world_size(), is_measured=False)
    processes.barrier()
    device, is_bf16 = processes.device(), precision == "bf16"
    own = measured_peak(device, DTYPES[precision])
    plain = measured_peak(device, torch.float32) if is_bf16 and device.type == "cpu" else 0.0
    found, in_fp32 = processes.sum_over_ranks([own, plain])
    if in_fp32 > SLOWER_IN_BF16 * found and processes.rank() == 0:
        log.warning(
            'this CPU multiplies matrices at %.0f GFLOP/s in bf16 and at %.0f in fp32; '
            'engine.precision = "fp32" is faster here',
            found / 1e9, in_fp32 / 1e9,
        )  # fmt: skip
    return Peak(found, is_measured=True)


def measured_peak(device: torch.device, dtype: torch.dtype) -> float:
    """Floating-point operations a second of square matrix products with this rank's threads; takes
    about half a second."""
    size = PEAK_SIZE[device.type]
    generator = torch.Generator(device).manual_seed(0)  # the run's own generators stay untouched
    left, right = (
        torch.randn(size, size, device=device, generator=generator).to(dtype) for _ in range(2)
    )
    product = torch.mm(left, right)
    fastest = 0.0
    for _ in range(PEAK_BLOCKS):
        synchronize(device)
        started, count = time.perf_counter(), 0
        while (seconds := time.perf_counter() - started) < PEAK_BLOCK_SECONDS:
            torch.mm(left, right, out=product)
            synchronize(device)
            count += 1
        fastest = max(fastest, count * 2 * size**3 / seconds)
    return fastest


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
