"""TensorBoard's event files of one start of a run: as good as they can be, never a reason to end.

A file begins with the version; the first one of a start goes on with a session start whose step
tells every TensorBoard loader to forget what an interrupted run wrote from there on. The very first
file of a run needs that too, with step 0: TensorBoard takes the first session start it sees as the
beginning, whatever its step. File names sort in the order of the starts, even if a clock went
backwards.

If a write fails (the disk is full, the folder may not be written to) this is said once, what is
lost is counted, and every further record tries again with a new file: the old one may end in the
middle of a record, where its readers stop.
"""

import logging
import os
import socket
import time
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.summary.writer.record_writer import RecordWriter

log = logging.getLogger("textmill")


class EventFile:
    """The writer of one start; no method raises OSError."""

    def __init__(self, folder: Path, first_step: int) -> None:
        """`first_step` is the first step that this start may write."""
        self.folder = folder
        self.first_step = first_step
        self.file: BinaryIO | None = None  # None: a new one is to be opened
        self.number = 0  # files opened so far
        self.is_begun = False  # a session start has reached a file
        self.unsure = 0  # records since the last flush
        self.lost = 0  # records that no file holds
        self.is_failing = False

    def write(self, event: Event, step: int) -> None:
        """Append one record; it may reach the file only with `flush`."""
        event.step = step
        event.wall_time = time.time()
        self.unsure += 1
        try:
            append(self.file or self.open(), event)
        except OSError as error:
            self.fail(error)

    def open(self) -> BinaryIO:
        """Begin a file."""
        file = self.file = next_event_file(self.folder).open("wb")
        self.number += 1
        beginning = [Event(file_version="brain.Event:2")]
        if not self.is_begun:
            beginning.append(Event(session_log=SessionLog(status=SessionLog.START)))
        for event in beginning:
            event.step = self.first_step
            event.wall_time = time.time()
            append(file, event)
        return file

    def flush(self, is_durable: bool = False) -> None:
        """Bring all records to the file; durable: they survive a power loss."""
        try:
            if self.file is None:
                return
            self.file.flush()
            if is_durable:
                os.fsync(self.file.fileno())
        except OSError as error:
            self.fail(error)
            return
        self.unsure = 0
        self.is_begun = True
        if self.is_failing:
            self.is_failing = False
            log.warning("TensorBoard's events are written again; %d were lost", self.lost)

    def fail(self, error: OSError) -> None:
        """Give the file up and count what it may not hold."""
        self.lost += self.unsure
        self.unsure = 0
        self.abandon()
        if not self.is_failing:
            self.is_failing = True
            log.warning(
                "TensorBoard's events cannot be written to %s (%s): training goes on without "
                "them, metrics.jsonl has the same numbers",
                self.folder, error.strerror or error,
            )  # fmt: skip

    def abandon(self) -> None:
        """Close the file, whatever becomes of what it still holds."""
        if self.file is not None:
            with suppress(OSError):
                self.file.close()
        self.file = None

    def close(self) -> None:
        """Flush and close; safe to call twice. Says what is lost for good."""
        self.flush(is_durable=True)
        self.abandon()
        if self.is_failing:
            self.is_failing = False
            log.warning("%d of TensorBoard's events were lost", self.lost)


def append(file: BinaryIO, event: Event) -> None:
    RecordWriter(file).write(event.SerializeToString())


def next_event_file(folder: Path) -> Path:
    """A name that sorts after every event file in the folder: loaders read them in that order."""
    starts = [int(path.name.split(".")[3]) for path in folder.glob("events.out.tfevents.*")]
    start = max([int(time.time()), *(found + 1 for found in starts)])
    return folder / f"events.out.tfevents.{start:010d}.{socket.gethostname()}.{os.getpid()}"
