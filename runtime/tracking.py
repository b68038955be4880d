"""What a run reports: TensorBoard event files, metrics.jsonl and one console line, all by one rank.

Files, in the folder of the stage (nothing else may write events there):

events.out.tfevents.*   one more at each start. A file begins with the version, then a session start
                        whose step tells every TensorBoard loader to forget what an interrupted run
                        wrote from there on. The first file needs that too, with step 0: TensorBoard
                        takes the first session start it sees as the beginning, whatever its step.
                        File names sort in the order of the starts, even if a clock went backwards.
metrics.jsonl           one JSON object a line: {"step", "time" (Unix seconds), tag: value, ...}.
                        Values that are not finite are the strings "nan", "inf", "-inf": JSON has no
                        such numbers and `float` reads them. A resume cuts what it will write again,
                        so no number is ever in the file twice.

A run resumed from the checkpoint of step k keeps the points of steps 0..k and writes k + 1 anew; a
run that starts again from nothing (k = 0) keeps none.
Tags are described in docs/tracking.md; the messages in tensorboard_summaries.py.
"""

import json
import math
import os
import socket
import time
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter

from runtime import provenance
from runtime import tensorboard_summaries as summaries
from runtime.console_lines import console_line

METRICS = "metrics.jsonl"
ETA_WINDOW = 20  # log calls over which the speed behind the ETA is averaged


class Tracker:
    """The writer of one run's metrics; on ranks that do not write, every method does nothing."""

    def __init__(self, folder: Path, start_step: int, total_steps: int, is_writer: bool) -> None:
        """Open the files; `start_step` is the number of steps the loaded checkpoint has done."""
        self.total_steps = total_steps
        self.is_writer = is_writer
        self.ends_at = math.inf  # on the monotonic clock: a run with a budget of time sets it
        self.recent: deque[tuple[int, float]] = deque([(start_step, time.monotonic())], ETA_WINDOW)
        if not is_writer:
            return
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.first_step = start_step + 1 if start_step else 0
        self.tags: set[str] = set()
        kept = cut_from(folder / METRICS, self.first_step)
        self.lines = (folder / METRICS).open("a", encoding="utf-8")
        self.events_file = next_event_file(folder).open("wb")
        self.events = RecordWriter(self.events_file)
        self.write(Event(file_version="brain.Event:2"), self.first_step)
        self.write(Event(session_log=SessionLog(status=SessionLog.START)), self.first_step)
        self.show_layout(kept, self.first_step)
        self.flush()

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Record metrics of a step everywhere; they reach the files before this returns."""
        if not self.is_writer:
            return
        now = time.time()
        self.show_layout(metrics, step)
        self.write(Event(summary=summaries.scalars(metrics)), step)
        self.events.flush()
        record: dict[str, float | str] = {"step": step, "time": round(now, 3)}
        record |= {tag: json_number(value) for tag, value in metrics.items()}
        self.lines.write(json.dumps(record, allow_nan=False) + "\n")
        self.lines.flush()
        if step > self.recent[-1][0]:
            self.recent.append((step, time.monotonic()))
        line = console_line(step, self.total_steps, metrics, self.seconds_left(step))
        if line:
            print(line, flush=True)

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
        self.write(Event(summary=summary), max(step, self.first_step))
        self.events.flush()

    def show_layout(self, tags: Iterable[str], step: int) -> None:
        """Arrange the charts anew if there are tags without a place; TensorBoard takes the last
        arrangement, and one with charts for tags that never come would show empty ones."""
        if not self.tags.issuperset(tags):
            self.tags |= set(tags)
            self.show(summaries.layout(sorted(self.tags)), step)

    def write(self, event: Event, step: int) -> None:
        """Append one event to the current event file."""
        event.step = step
        event.wall_time = time.time()
        self.events.write(event.SerializeToString())

    def seconds_left(self, step: int) -> float | None:
        """Time to the last step at the recent speed; None before two points are known."""
        (first_step, first_time), (last_step, last_time) = self.recent[0], self.recent[-1]
        if last_step == first_step:
            return None
        by_steps = (self.total_steps - step) * (last_time - first_time) / (last_step - first_step)
        return min(by_steps, max(self.ends_at - last_time, 0.0))

    def flush(self) -> None:
        """Make all that was logged survive a power loss; called at checkpoints."""
        if not self.is_writer:
            return
        for file in (self.events_file, self.lines):
            file.flush()
            os.fsync(file.fileno())

    def close(self) -> None:
        """Flush and close; safe to call twice."""
        if not self.is_writer or self.lines.closed:
            return
        self.flush()
        self.events_file.close()
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


def next_event_file(folder: Path) -> Path:
    """A name that sorts after every event file in the folder: loaders read them in that order."""
    starts = [int(path.name.split(".")[3]) for path in folder.glob("events.out.tfevents.*")]
    start = max([int(time.time()), *(found + 1 for found in starts)])
    return folder / f"events.out.tfevents.{start:010d}.{socket.gethostname()}.{os.getpid()}"


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
