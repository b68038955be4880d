"""What the main thread of this rank does: a few variables which the heartbeat thread reads.

The main thread only assigns them: no system call, no lock. Collectives are counted since the step
began: all ranks enter the same ones in the same order, so the rank with the fewest is the one the
others wait for, also on GPUs, where a host may wait in any call. Times are monotonic seconds.
"""

import math
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

COMMUNICATION = "communication"
START = "start"  # until the first step: reading, building, compiling, loading
STEP = "step"  # in a step, in none of its parts
END = "end"  # after the last step: exports, reports
LONG = frozenset((START, END, "evaluation", "hooks", "checkpoint"))  # have no usual duration
UNUSUAL_STEPS = 2  # the first ones of an engine: kernels are compiled, buffers made
MEMORY = 500  # steps whose durations are remembered
ENOUGH = 8  # durations of usual steps that say more than those of the first ones


class Activity:
    """Of one process; written by its main thread."""

    def __init__(self) -> None:
        self.step = 0  # of the run, counted from 1; 0: none began
        self.begun = 0  # steps that this process has begun, also those done again
        self.collectives = 0  # entered since the step began
        self.operation = ""  # the last collective that was entered
        self.progress = 0  # grows with whatever is begun or finished
        self.base = START
        self.parts: list[str] = []  # that we are in, innermost last
        self.num_done = 0  # steps finished by this engine
        self.seconds: deque[float] = deque(maxlen=MEMORY)  # of these steps
        self.began: float | None = None

    def begin(self, base: str) -> None:
        """Be between steps: `START` before the first step of an engine, `END` after the last."""
        self.base = base
        self.began = None
        if base == START:
            self.num_done = 0
            self.seconds.clear()
        self.progress += 1

    def begin_step(self, step: int) -> None:
        self.step = step
        self.collectives = 0
        self.begun += 1
        self.base = STEP
        self.progress += 1
        self.began = time.monotonic()

    def end_step(self) -> None:
        """The update is done; what follows until the next step has no part in its duration."""
        if self.began is None:
            return
        self.seconds.append(time.monotonic() - self.began)
        self.began = None
        self.num_done += 1
        self.progress += 1

    def tick(self) -> None:
        """Say that long work has come further."""
        self.progress += 1

    @contextmanager
    def inside(self, part: str) -> Iterator[None]:
        """Be in a part of a step, or of what lies between steps."""
        self.progress += 1
        if self.parts[-1:] == [part]:
            yield
            return
        self.parts.append(part)
        try:
            yield
        finally:
            self.parts.pop()
            self.progress += 1

    @contextmanager
    def collective(self, name: str) -> Iterator[None]:
        """Be in a collective, which is counted."""
        self.collectives += 1
        self.operation = name
        with self.inside(COMMUNICATION):
            yield

    @property
    def phases(self) -> tuple[str, ...]:
        """Where the main thread is, outermost first."""
        return (self.base, *self.parts)

    @property
    def is_settled(self) -> bool:
        """True once steps take as long as they usually do."""
        return self.num_done >= UNUSUAL_STEPS

    @property
    def p99_seconds(self) -> float:
        """The 99th percentile of the steps' durations; 0 before the first."""
        found = list(self.seconds)
        if self.num_done == len(found) and len(found) >= UNUSUAL_STEPS + ENOUGH:
            found = found[UNUSUAL_STEPS:]
        return percentile(found, 0.99)


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least this share of the values does not exceed; 0 of none."""
    return sorted(values)[math.ceil(share * len(values)) - 1] if values else 0.0


activity = Activity()  # of this process: there is one main thread
