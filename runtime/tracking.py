"""What a run reports: TensorBoard event files, metrics.jsonl and one console line, all by one rank.

Files, in the folder of the stage (nothing else may write events there):

events.out.tfevents.*   one more at each start (runtime/event_file.py). Pictures of what the other
                        file says: a run does not end because they cannot be written.
metrics.jsonl           one JSON object a line: {"step", "time" (Unix seconds), tag: value, ...}.
                        Values that are not finite are the strings "nan", "inf", "-inf": JSON has no
                        such numbers and `float` reads them. A resume cuts what it will write again,
                        so no number is ever in the file twice. A write that fails is kept in
                        `fault`, for the ranks to agree on: a run whose numbers have gaps ends.

A run resumed from the checkpoint of step k keeps the points of steps 0..k and writes k + 1 anew; a
run that starts again from nothing (k = 0) keeps none.
Tags are described in docs/tracking.md; the messages in tensorboard_summaries.py.
"""

import json
import math
import os
import time
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary

from runtime import provenance
from runtime import tensorboard_summaries as summaries
from runtime.console_lines import console_line
from runtime.event_file import EventFile

METRICS = "metrics.jsonl"
ETA_WINDOW = 20  # log calls over which the speed behind the ETA is averaged


class Tracker:
    """The writer of one run's metrics; on ranks that do not write, every method does nothing."""

    def __init__(
        self,
        folder: Path,
        start_step: int,
        total_steps: int,
        is_writer: bool,
        repeats_step: bool = False,
    ) -> None:
        """Open the files; `start_step` is the number of steps the loaded checkpoint has done, of
        which the last is logged once more if it is repeated."""
        self.total_steps = total_steps
        self.is_writer = is_writer
        self.ends_at = math.inf  # on the monotonic clock: a run with a budget of time sets it
        self.fault: OSError | None = None  # why metrics.jsonl lacks a line
        self.recent: deque[tuple[int, float]] = deque([(start_step, time.monotonic())], ETA_WINDOW)
        if not is_writer:
            return
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.first_step = start_step + (not repeats_step) if start_step else 0
        self.tags: set[str] = set()
        self.arranged_in = -1  # number of the event file that has the arrangement of charts
        self.path = folder / METRICS
        kept = cut_from(self.path, self.first_step)
        self.lines = self.path.open("a", encoding="utf-8")
        self.events = EventFile(folder, self.first_step)
        self.show_layout(kept, self.first_step)
        self.events.flush(is_durable=True)

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Record metrics of a step everywhere; they reach the files before this returns."""
        if not self.is_writer:
            return
        now = time.time()
        self.show_layout(metrics, step)
        self.events.write(Event(summary=summaries.scalars(metrics)), step)
        self.events.flush()
        record: dict[str, float | str] = {"step": step, "time": round(now, 3)}
        record |= {tag: json_number(value) for tag, value in metrics.items()}
        self.write_line(json.dumps(record, allow_nan=False) + "\n")
        if step > self.recent[-1][0]:
            self.recent.append((step, time.monotonic()))
        line = console_line(step, self.total_steps, metrics, self.seconds_left(step))
        if line:
            with suppress(OSError):  # nobody reads it any more, or its disk is full
                print(line, flush=True)

    def write_line(self, line: str) -> None:
        """Append to metrics.jsonl, unless a line before could not be."""
        if self.fault is None:
            try:
                self.lines.write(line)
                self.lines.flush()
            except OSError as error:
                self.fault = provenance.failure(error, self.path)

    def text(self, tag: str, text: str, step: int) -> None:
        """Record a text (Markdown) for TensorBoard; nothing if it is empty."""
        if text and self.is_writer:
            self.show(summaries.text(tag, text), step)

    def image(self, tag: str, png: bytes, step: int) -> None:
        """Record a picture for TensorBoard. Raises ValueError if the bytes are no PNG."""
        if self.is_writer:
            self.show(summaries.image(tag, png), step)

    def pr_curve(
        self, tag: str, is_positive: Sequence[bool], scores: Sequence[float], step: int
    ) -> None:
        """Record a precision-recall curve for TensorBoard; scores are probabilities."""
        if self.is_writer:
            self.show(summaries.pr_curve(tag, is_positive, scores), step)

    def hyperparameters(self, tables: Mapping[str, Any]) -> None:
        """Record the run's parameters (nested tables) for TensorBoard's HPARAMS page; its metrics
        are the last scalars."""
        if tables and self.is_writer:
            name = "/".join(self.folder.resolve().parts[-3:])
            self.show(summaries.session_start(name, tables), self.first_step)

    def finish(self) -> None:
        """Say that the run has come to its end."""
        if self.is_writer:
            self.show(summaries.session_end(), self.total_steps)

    def show(self, summary: Summary, step: int) -> None:
        """Write for TensorBoard alone; never before the step that this start begins with."""
        self.events.write(Event(summary=summary), max(step, self.first_step))
        self.events.flush()

    def show_layout(self, tags: Iterable[str], step: int) -> None:
        """Arrange the charts anew if there are tags without a place or the events go to another
        file; TensorBoard takes the last arrangement, and one with charts for tags that never come
        would show empty ones."""
        is_elsewhere = self.tags and self.events.number != self.arranged_in
        if is_elsewhere or not self.tags.issuperset(tags):
            self.tags |= set(tags)
            self.show(summaries.layout(sorted(self.tags)), step)
            self.arranged_in = self.events.number

    def seconds_left(self, step: int) -> float | None:
        """Time to the last step at the recent speed; None before two points are known."""
        (first_step, first_time), (last_step, last_time) = self.recent[0], self.recent[-1]
        if last_step == first_step:
            return None
        by_steps = (self.total_steps - step) * (last_time - first_time) / (last_step - first_step)
        return min(by_steps, max(self.ends_at - last_time, 0.0))

    def flush(self) -> None:
        """Make all that was logged survive a power loss; called at checkpoints. Raises OSError if
        metrics.jsonl lacks a line."""
        if not self.is_writer:
            return
        if self.fault is not None:
            raise self.fault
        self.events.flush(is_durable=True)
        try:
            self.lines.flush()
            os.fsync(self.lines.fileno())
        except OSError as error:
            raise provenance.failure(error, self.path) from None

    def close(self) -> None:
        """Close; safe to call twice. What must not be lost was flushed before."""
        if not self.is_writer or self.lines.closed:
            return
        self.events.close()
        with suppress(OSError):
            self.lines.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def cut_from(path: Path, step: int) -> set[str]:
    """Drop the lines of this step and later ones, and a last line torn by a kill, atomically;
    returns the tags of what stays."""
    if not path.is_file():
        return set()
    content = path.read_bytes()
    lines = [(line, record_of(line)) for line in content.splitlines(keepends=True)]
    kept = [(line, record) for line, record in lines if record.get("step", step) < step]
    if len(kept) < len(lines):
        provenance.write_bytes(path, b"".join(line for line, _ in kept))
    return {tag for _, record in kept for tag in record if "/" in tag}


def record_of(line: bytes) -> dict[str, Any]:
    """A line's numbers; empty if it is torn."""
    try:
        record = json.loads(line) if line.endswith(b"\n") else None
    except ValueError:
        return {}
    return record if isinstance(record, dict) else {}


def json_number(value: float) -> float | str:
    return value if math.isfinite(value) else str(float(value))
