"""Progress of long work on the console: share done, rate, time left, units."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    TaskProgressColumn,
    TextColumn,
)
from rich.progress import (
    Progress as Bars,
)

from runtime.readable import duration

LINE_SECONDS = 30.0  # between lines where there is no terminal


class Progress:
    """Shows one pass at a time: a bar in a terminal, now and then a line elsewhere."""

    def __init__(self, num_workers: int) -> None:
        self.num_workers = num_workers
        self.console = Console(stderr=True)

    @contextmanager
    def note(self, title: str) -> Iterator[None]:
        """Say how long something without parts took."""
        started = time.monotonic()
        yield
        self.console.print(f"{title:10} {time.monotonic() - started:6.1f} s", highlight=False)

    @contextmanager
    def track(
        self, title: str, sizes: Sequence[int], todo: Sequence[int], parts: str = "units",
        size_unit: str = "B",
    ) -> Iterator[Callable[[int], None]]:  # fmt: skip
        """Yield what to call with the number of each part as it ends.

        Sizes are in `size_unit`; where one is not known (0), parts are counted. Rate and time left
        come from the parts of this run alone, not from what was done before.
        """
        known = all(sizes)
        pace = Pace(sizes if known else [1] * len(sizes), todo, size_unit if known else parts)
        columns = (
            TextColumn("{task.description:10}"),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[pace]}"),
        )
        is_terminal = self.console.is_terminal
        shown = time.monotonic()
        with Bars(*columns, console=self.console, disable=not is_terminal, transient=True) as bars:
            bar = bars.add_task(title, total=pace.total, completed=int(pace.done), pace="")

            def advance(number: int) -> None:
                nonlocal shown
                pace.add(number)
                if is_terminal:
                    bars.update(bar, completed=pace.done, pace=pace.text())
                elif time.monotonic() - shown > LINE_SECONDS:
                    shown = time.monotonic()
                    line = f"{title:10} {pace.done / pace.total:6.1%}  {pace.text()}"
                    self.console.print(line, highlight=False)

            yield advance
        skipped = len(sizes) - len(todo)
        before = f", {skipped} done before" if skipped else ""
        workers = f", {self.num_workers} workers" if self.num_workers > 1 else ""
        self.console.print(
            f"{title:10} {pace.seconds():6.1f} s  {pace.rate_text():>12}  {len(todo)} {parts}"
            f"{before}{workers}",
            highlight=False,
        )


class Pace:
    """How fast parts end and when the last of them will."""

    def __init__(self, sizes: Sequence[int], todo: Sequence[int], unit: str) -> None:
        self.sizes, self.unit = sizes, unit
        self.total = sum(sizes)
        self.done = self.begun = self.total - sum(sizes[number] for number in todo)
        self.started = time.monotonic()

    def add(self, number: int) -> None:
        self.done += self.sizes[number]

    def seconds(self) -> float:
        return time.monotonic() - self.started

    def rate(self) -> float:
        """Units a second since this run began."""
        return (self.done - self.begun) / max(self.seconds(), 1e-9)

    def rate_text(self) -> str:
        return f"{scaled(self.rate())}{self.unit}/s"

    def text(self) -> str:
        rate = self.rate()
        left = duration((self.total - self.done) / rate) if rate else "?"
        return f"{self.rate_text()}  eta {left}"


def scaled(value: float) -> str:
    """A number with a decimal prefix: 1.2 M."""
    for limit, prefix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= limit:
            return f"{value / limit:.1f} {prefix}"
    return f"{value:.1f} "
