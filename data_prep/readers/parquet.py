"""Parquet: one document a row, read row group by row group."""

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from data_prep.documents import Document, Reject, quarantine
from data_prep.files import find, id_prefixes, open_file
from data_prep.sources import InputFile, Part, Source
from runtime.errors import DataError

BATCH_ROWS = 256


class Params(Source):
    """Reads the text column of Parquet files; the row group is the unit of work."""


def inputs(params: Params) -> list[InputFile]:
    return find(params)


def parts(params: Params) -> Iterator[Part]:
    """One part a row group; a file without a readable footer is one part, quarantined by `read`."""
    files = find(params)
    prefixes = id_prefixes(files)
    for file in files:
        prefix = prefixes[file.path]
        with open_file(file.path) as raw:
            try:
                footer = pq.ParquetFile(raw).metadata
            except (pa.ArrowException, OSError):
                yield Part(file.path, 0, 0, file.size, prefix)
                continue
            for group in range(footer.num_row_groups):
                size = footer.row_group(group).total_byte_size
                yield Part(file.path, group, group + 1, size, prefix)


def read(part: Part, params: Params, name: str) -> Iterator[Document | Reject]:
    """The rows of one row group."""
    with open_file(part.path) as raw:
        try:
            file = pq.ParquetFile(raw)
            columns = file.schema_arrow.names
            if params.text not in columns:
                raise DataError(
                    f"source {name}: no column {params.text!r} in {part.path}; "
                    f"it has: {', '.join(columns)}; set `text` to one of them"
                )
            row = sum(file.metadata.row_group(group).num_rows for group in range(part.start))
            wanted = [params.text] + ([params.id] if params.id in columns else [])
            groups = list(range(part.start, part.end))
            for batch in file.iter_batches(BATCH_ROWS, row_groups=groups, columns=wanted):
                yield from rows(batch.to_pylist(), row, part, params, name)
                row += len(batch)
        except (pa.ArrowException, OSError) as error:
            yield quarantine(f"{part.id_prefix}#{part.start}", "damaged file", str(error))
            return
        if not groups:
            yield quarantine(part.id_prefix, "damaged file", "no row group could be read")


def rows(
    found: list[dict[str, Any]], first: int, part: Part, params: Params, name: str
) -> Iterator[Document | Reject]:
    for number, fields in enumerate(found, first):
        place = f"{part.id_prefix}#{number}"
        text = fields[params.text]
        if not isinstance(text, str):
            yield quarantine(place, "text is not a string", repr(text)[:200])
            continue
        id = fields.get(params.id) if params.id is not None else None
        yield Document(place if id is None else str(id), text, name, params.domain)
