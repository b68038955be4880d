"""Who the ranks are and what they say of themselves; both travel as JSON."""

from dataclasses import asdict, dataclass, replace
from typing import Any, Self

from runtime.watchdog.activity import COMMUNICATION, END, START, STEP


@dataclass(frozen=True)
class Member:
    """One rank's process."""

    rank: int
    host: str  # name, for people
    machine: str  # equal where processes can look at and signal each other
    pid: int
    began: int  # ticks after the machine's start: another process with this pid has another

    def __str__(self) -> str:
        return f"rank {self.rank} on {self.host} (pid {self.pid})"


@dataclass(frozen=True)
class Report:
    """What a rank's main thread does; the fields of Activity, and how long it stands still."""

    step: int = 0
    begun: int = 0
    collectives: int = 0
    phases: tuple[str, ...] = (START,)
    operation: str = ""
    is_settled: bool = False
    p99_seconds: float = 0.0
    still: float = 0.0  # seconds since the main thread came further
    counted: float = 0.0  # those of them that nothing excuses

    @property
    def order(self) -> tuple[int, int]:
        """How far a rank is: smaller is behind."""
        return self.begun, self.collectives

    @property
    def is_communicating(self) -> bool:
        return self.phases[-1] == COMMUNICATION

    @property
    def where(self) -> str:
        """Where the main thread is, in words."""
        inner, *outer = reversed(self.phases)
        if inner == COMMUNICATION:
            inner = f"{inner} ({self.operation})"
        words = " in ".join([inner, *(part for part in outer if part != STEP)])
        if START in self.phases or not self.step:
            return words
        if self.phases == (STEP,):
            return f"the loop at step {self.step}"
        return f"{words} {'after' if END in self.phases else 'of'} step {self.step}"

    def standing(self, still: float, counted: float) -> Self:
        return replace(self, still=round(still, 3), counted=round(counted, 3))

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def of_json(cls, found: dict[str, Any]) -> Self:
        """The report in a message. Raises TypeError or KeyError if it is none."""
        return cls(**{**found, "phases": tuple(found["phases"])})
