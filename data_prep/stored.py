"""Documents between the passes: ids and clean texts of a unit in one Arrow file.

`read/<unit>.arrow` holds the documents in input order, in batches bounded by bytes; a document is
known by its row. Passes that read them say which rows they want and get the texts as they will be
trained on: without the lines that are repeated elsewhere.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from data_prep import lines
from data_prep.work import Work
from runtime.provenance import atomic

BATCH_BYTES = 1 << 22  # UTF-8 of the texts handed on together
SCHEMA = pa.schema([("id", pa.string()), ("text", pa.large_string())])


@dataclass(frozen=True)
class Batch:
    """Some documents of a unit."""

    rows: NDArray[np.int64]  # (n,) places within the unit
    ids: list[str]
    texts: Sequence[str]


class TextFile:
    """Takes batches of documents into the file of a unit."""

    def __init__(self, writer: Any) -> None:
        self.writer = writer

    def write(self, batch: Batch) -> None:
        self.writer.write_batch(pa.record_batch([batch.ids, batch.texts], schema=SCHEMA))


@contextmanager
def text_file(work: Work, unit: str) -> Iterator[TextFile]:
    """The file of a unit, which gets its name when the block ends without error."""
    options = pa.ipc.IpcWriteOptions(compression="lz4", use_threads=False)
    with (
        atomic(work.path(f"read/{unit}", ".arrow")) as temporary,
        pa.OSFile(str(temporary), "wb") as sink,
        pa.ipc.new_file(sink, SCHEMA, options=options) as writer,
    ):
        yield TextFile(writer)


def documents(work: Work, unit: str, keep: NDArray[np.bool_]) -> Iterator[Batch]:
    """The stored documents of a unit whose row is to be kept, without lines that go."""
    removed = lines.Removed.load(work, unit)
    # Not mapped: batches are compressed, and pages of a mapped file count as this worker's memory.
    with pa.OSFile(str(work.path(f"read/{unit}", ".arrow"))) as source:
        reader = pa.ipc.open_file(source, options=pa.ipc.IpcReadOptions(use_threads=False))
        first = 0
        for place in range(reader.num_record_batches):
            batch = reader.get_batch(place)
            rows = np.flatnonzero(keep[first : first + len(batch)])
            chosen = batch if len(rows) == len(batch) else batch.take(pa.array(rows))
            texts = removed.without(rows + first, chosen.column(1).to_pylist())
            yield Batch(rows + first, chosen.column(0).to_pylist(), texts)
            first += len(batch)


def unit_array(work: Work, unit: str, kind: str) -> Any:
    """One of the .npy files that the first pass wrote of a unit, mapped."""
    return np.load(work.path(f"read/{unit}", f".{kind}.npy"), mmap_mode="r")


def joined(batches: Sequence[NDArray[Any]], dtype: Any) -> NDArray[Any]:
    """Arrays one after the other; none give an empty one."""
    return np.concatenate(batches).astype(dtype, copy=False) if batches else np.zeros(0, dtype)
