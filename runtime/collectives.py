"""Times what a communication backend does, without changing it, and tells the watchdog."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import wraps
from typing import Any

from runtime.watchdog.activity import COMMUNICATION, activity

Timer = Callable[[], AbstractContextManager[None]]
# All operations that wait for other ranks.
COLLECTIVES = frozenset(
    (
        "all_gather", "all_gather_base", "all_gather_coalesced", "all_gather_into_tensor",
        "all_gather_object", "all_reduce", "all_reduce_coalesced", "all_to_all",
        "all_to_all_single", "barrier", "broadcast", "broadcast_object_list", "gather",
        "inference_all_reduce", "monitored_barrier", "recv", "reduce", "reduce_scatter",
        "reduce_scatter_tensor", "scatter", "send",
    )
)  # fmt: skip


class TimedBackend:
    """A backend whose collectives, and the waits for those under way, run inside a timer."""

    def __init__(self, backend: Any, timer: Timer) -> None:
        self.backend = backend
        self.timer = timer

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.backend, name)
        if name not in COLLECTIVES:
            return found

        @wraps(found)
        def timed(*args: Any, **kwargs: Any) -> Any:
            with activity.collective(name), self.timer():
                work = found(*args, **kwargs)
            return work if work is None else TimedWork(work, self.timer)

        return timed


class TimedWork:
    """A collective under way; waiting for it is timed."""

    def __init__(self, work: Any, timer: Timer) -> None:
        self.work = work
        self.timer = timer

    def __getattr__(self, name: str) -> Any:
        return getattr(self.work, name)

    def wait(self, *args: Any, **kwargs: Any) -> Any:
        """As the collective's own."""
        with activity.inside(COMMUNICATION), self.timer():
            return self.work.wait(*args, **kwargs)
