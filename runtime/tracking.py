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
Tags: loss/*, loss_by_domain/*, perf/*, optim/*, mem/*, data/*, health/*, eval/*.
"""

import json
import math
import os
import socket
import time
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.custom_scalar import metadata as custom_scalar
from tensorboard.plugins.text import metadata as text_plugin
from tensorboard.summary.writer.record_writer import RecordWriter

from runtime import provenance
from runtime.readable import duration

METRICS = "metrics.jsonl"
ETA_WINDOW = 20  # log calls over which the speed behind the ETA is averaged
LAYOUT = {
    "Learning": {
        "training and validation loss": ["loss/train", "loss/valid"],
        "validation loss by domain": ["loss_by_domain/.*"],
        "evaluation": ["eval/.*"],
    },
    "Optimization": {
        "learning rate": ["optim/learning_rate"],
        "gradient norm": ["optim/gradient_norm"],
    },
    "Speed and memory": {
        "tokens per second": ["perf/tokens_per_second"],
        "share of time waiting for data": ["perf/data_wait_share"],
        "memory, GiB": ["mem/.*"],
    },
}


class Tracker:
    """The writer of one run's metrics; on ranks that do not write, every method does nothing."""

    def __init__(self, folder: Path, start_step: int, total_steps: int, is_writer: bool) -> None:
        """Open the files; `start_step` is the number of steps the loaded checkpoint has done."""
        self.total_steps = total_steps
        self.is_writer = is_writer
        self.recent: deque[tuple[int, float]] = deque([(start_step, time.monotonic())], ETA_WINDOW)
        if not is_writer:
            return
        folder.mkdir(parents=True, exist_ok=True)
        self.first_step = start_step + 1 if start_step else 0
        cut_from(folder / METRICS, self.first_step)
        self.lines = (folder / METRICS).open("a", encoding="utf-8")
        self.events_file = next_event_file(folder).open("wb")
        self.events = RecordWriter(self.events_file)
        self.write(Event(file_version="brain.Event:2"), self.first_step)
        self.write(Event(session_log=SessionLog(status=SessionLog.START)), self.first_step)
        self.write(Event(summary=layout_summary()), self.first_step)
        self.flush()

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Record metrics of a step everywhere; they reach the files before this returns."""
        if not self.is_writer:
            return
        now = time.time()
        values = [Summary.Value(tag=tag, simple_value=value) for tag, value in metrics.items()]
        self.write(Event(summary=Summary(value=values)), step)
        self.events.flush()
        record: dict[str, float | str] = {"step": step, "time": round(now, 3)}
        record |= {tag: json_number(value) for tag, value in metrics.items()}
        self.lines.write(json.dumps(record, allow_nan=False) + "\n")
        self.lines.flush()
        if step > self.recent[-1][0]:
            self.recent.append((step, time.monotonic()))
        print(console_line(step, self.total_steps, metrics, self.seconds_left(step)), flush=True)

    def text(self, tag: str, text: str, step: int) -> None:
        """Record a text (Markdown) for TensorBoard."""
        if not self.is_writer:
            return
        tensor = TensorProto(
            dtype="DT_STRING",
            string_val=[text.encode("utf-8")],
            tensor_shape=TensorShapeProto(dim=[TensorShapeProto.Dim(size=1)]),
        )
        metadata = SummaryMetadata.FromString(
            text_plugin.create_summary_metadata(tag, "").SerializeToString()
        )
        value = Summary.Value(tag=tag, tensor=tensor, metadata=metadata)
        self.write(Event(summary=Summary(value=[value])), max(step, self.first_step))
        self.events.flush()

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
        return (self.total_steps - step) * (last_time - first_time) / (last_step - first_step)

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


def cut_from(path: Path, step: int) -> None:
    """Drop the lines of this step and later ones, and a last line torn by a kill, atomically."""
    if not path.is_file():
        return
    content = path.read_bytes()
    kept = b"".join(line for line in content.splitlines(keepends=True) if is_kept(line, step))
    if kept != content:
        provenance.write_bytes(path, kept)


def is_kept(line: bytes, step: int) -> bool:
    try:
        return line.endswith(b"\n") and bool(json.loads(line)["step"] < step)
    except (ValueError, KeyError, TypeError):
        return False


def json_number(value: float) -> float | str:
    return value if math.isfinite(value) else str(float(value))


def layout_summary() -> Summary:
    """The charts of TensorBoard's custom-scalars page."""
    layout = layout_pb2.Layout(
        category=[
            layout_pb2.Category(
                title=category,
                chart=[
                    layout_pb2.Chart(
                        title=title, multiline=layout_pb2.MultilineChartContent(tag=tags)
                    )
                    for title, tags in charts.items()
                ],
            )
            for category, charts in LAYOUT.items()
        ]
    )
    metadata = SummaryMetadata.FromString(
        custom_scalar.create_summary_metadata().SerializeToString()
    )
    tensor = TensorProto(dtype="DT_STRING", string_val=[layout.SerializeToString()])
    tensor.tensor_shape.SetInParent()
    value = Summary.Value(tag=custom_scalar.CONFIG_SUMMARY_TAG, tensor=tensor, metadata=metadata)
    return Summary(value=[value])


def console_line(
    step: int, total_steps: int, metrics: Mapping[str, float], seconds_left: float | None
) -> str:
    """One aligned line: the known quantities in a fixed order, then results of evaluations."""
    parts = [f"step {step:>{len(str(total_steps))}}/{total_steps}"]
    memory = metrics.get("mem/device_peak_gib", metrics.get("mem/resident_gib"))
    for label, value, form in (
        ("loss ", metrics.get("loss/train"), "{:6.3f}"),
        ("lr ", metrics.get("optim/learning_rate"), "{:.1e}"),
        ("grad ", metrics.get("optim/gradient_norm"), "{:5.2f}"),
        ("", metrics.get("perf/tokens_per_second"), "{} tok/s"),
        ("", memory, "{:5.1f} GiB"),
        ("valid ", metrics.get("loss/valid"), "{:6.3f}"),
    ):
        if value is not None:
            shown = short_count(value) if form == "{} tok/s" else value
            parts.append(label + form.format(shown).replace("e-0", "e-"))
    for tag, value in metrics.items():
        group, _, name = tag.partition("/")
        if group in ("loss_by_domain", "eval", "health"):
            parts.append(f"{name} {value:.4g}")
    if "loss/train" in metrics and seconds_left is not None:
        parts.append(f"eta {duration(seconds_left)}")
    return "  ".join(parts)


def short_count(value: float) -> str:
    """Four characters at most: 873, 41k, 412k, 1.2M."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            scaled = value / size
            return f"{scaled:.1f}{unit}" if scaled < 9.95 else f"{scaled:.0f}{unit}"
    return f"{value:.0f}"
