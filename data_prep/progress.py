"""Progress of the passes on the console: share done, rate, time left, units."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.progress import (
    Progress as Bars,
)

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
        self, title: str, sizes: Sequence[int], todo: Sequence[int]
    ) -> Iterator[Callable[[int], None]]:
        """Yield what to call with the number of each unit as it ends. Sizes are bytes or tokens;
        where they are not known, units are counted."""
        known = all(sizes)
        weight = [float(size) if known else 1.0 for size in sizes]
        total, done = sum(weight), sum(weight) - sum(weight[number] for number in todo)
        begun, started, shown = done, time.monotonic(), time.monotonic()
        columns = (
            TextColumn("{task.description:10}"),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
        )
        with Bars(
            *columns, console=self.console, disable=not self.console.is_terminal, transient=True
        ) as bars:
            bar = bars.add_task(title, total=total, completed=int(done), rate="")

            def advance(number: int) -> None:
                nonlocal done, shown
                done += weight[number]
                rate = (done - begun) / max(time.monotonic() - started, 1e-9)
                text = f"{rate / 1e6:.1f} M/s" if known else f"{rate:.1f} units/s"
                bars.update(bar, completed=done, rate=text)
                if not self.console.is_terminal and time.monotonic() - shown > LINE_SECONDS:
                    shown = time.monotonic()
                    left = (total - done) / max(rate, 1e-9)
                    line = f"{title:10} {done / total:6.1%}  {text}  eta {left:.0f} s"
                    self.console.print(line, highlight=False)

            yield advance
        seconds = time.monotonic() - started
        skipped = len(sizes) - len(todo)
        before = f", {skipped} done before" if skipped else ""
        self.console.print(
            f"{title:10} {seconds:6.1f} s  {len(todo)} units{before}, {self.num_workers} workers",
            highlight=False,
        )
