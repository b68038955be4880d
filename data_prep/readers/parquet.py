"""Parquet: one document a row, read row group by row group, the wanted columns only.

Its id is the id column, or `file#row` (from 0). The unit of work is the row group. Quarantined:
rows without a string as text, files and row groups that cannot be read. A missing column ends the
run.
"""

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.parquet as pq

from data_prep.documents import Document, Reject, quarantine
from data_prep.files import find, id_prefixes, open_part, open_raw, version_of
from data_prep.records import document_of
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
        prefix, version = prefixes[file.path], version_of(file)
        with open_raw(file.path) as raw:
            try:
                footer = pq.ParquetFile(raw).metadata
            except (pa.ArrowException, OSError):
                yield Part(file.path, 0, 0, file.size, prefix, version)
                continue
            for group in range(footer.num_row_groups):
                size = footer.row_group(group).total_byte_size
                yield Part(file.path, group, group + 1, size, prefix, version)


def read(part: Part, params: Params, name: str) -> Iterator[Document | Reject]:
    """The rows of one row group."""
    with open_part(part, params, is_sequential=False) as raw:
        try:
            file = pq.ParquetFile(raw)
            wanted = columns(file.schema_arrow, part, params, name)
            row = sum(file.metadata.row_group(group).num_rows for group in range(part.start))
            groups = list(range(part.start, part.end))
            for batch in file.iter_batches(BATCH_ROWS, row_groups=groups, columns=wanted):
                for number, fields in enumerate(batch.to_pylist(), row):
                    yield document_of(fields, f"{part.id_prefix}#{number}", params, name)
                row += len(batch)
        except (pa.ArrowException, OSError) as error:
            yield quarantine(f"{part.id_prefix}#{part.start}", "damaged file", str(error))
            return
        if not groups:
            yield quarantine(part.id_prefix, "damaged file", "no row group could be read")


def columns(schema: pa.Schema, part: Part, params: Params, name: str) -> list[str]:
    """The columns to read. Raises DataError if the text is not among them."""
    if not has_column(schema, params.text):
        raise DataError(
            f"source {name}: no column {params.text!r} in {part.path}; "
            f"it has: {', '.join(schema.names)}; set `text` to one of them"
        )
    has_id = params.id is not None and has_column(schema, params.id)
    return [params.text, params.id] if has_id and params.id is not None else [params.text]


def has_column(schema: pa.Schema, path: str) -> bool:
    """Whether a column exists; "a.b" is the field b of the struct a."""
    if path in schema.names:
        return True
    fields = {field.name: field for field in schema}
    for key in path.split("."):
        if key not in fields:
            return False
        kind = fields[key].type
        fields = {field.name: field for field in kind} if pa.types.is_struct(kind) else {}
    return True
