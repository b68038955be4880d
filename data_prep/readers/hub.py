"""Any source of the `datasets` library, streamed: a hub id, or a local data set.

A document is a row; its id is the id field, or `split-shard#row`. A unit is one of the data set's
own shards. Quarantined: rows whose text is no string. Being unreachable ends the stage: what is
already done stays, and the same command goes on.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from data_prep.documents import Document, Reject
from data_prep.files import find
from data_prep.records import ABSENT, document_of, field_names, inner
from data_prep.sources import InputFile, Part, Source
from runtime.errors import DataError


class Params(Source):
    """Streams a split of a data set; `path` is a hub id or a folder."""

    path: str
    config: str | None = None  # name of the configuration
    split: str = "train"  # of the data set
    revision: str | None = None  # commit or tag; pin it, or a changed data set goes unnoticed


def inputs(params: Params) -> list[InputFile]:
    if Path(params.path).exists():
        return find(params)
    return [InputFile(params.path, 0, params.revision or "")]


def parts(params: Params) -> Iterator[Part]:
    num_shards = stream(params).num_shards
    files = inputs(params)
    size = sum(file.size for file in files) // max(num_shards, 1)
    for shard in range(num_shards):
        yield Part(params.path, shard, num_shards, size, f"{params.split}-{shard}")


def read(part: Part, params: Params, name: str) -> Iterator[Document | Reject]:
    """The rows of one shard."""
    rows = iter(stream(params).shard(num_shards=part.end, index=part.start))
    number = 0
    while True:
        try:
            fields = next(rows, None)
        except Exception as error:  # whatever the data set's own format and transport raise
            raise unreachable(params, error) from error
        if fields is None:
            return
        place = f"{part.id_prefix}#{number}"
        number += 1
        if inner(fields, params.text) is ABSENT:
            raise DataError(
                f"source {name}: no field {params.text!r} in {params.path}; "
                f"it has: {', '.join(field_names(fields))}; set `text` to one of them"
            )
        yield document_of(fields, place, params, name)


def stream(params: Params) -> Any:
    """Open the data set for streaming. Raises DataError with the way out."""
    import datasets

    # Otherwise every stream imports torch: 220 MiB and over a second in each worker.
    datasets.config.TORCH_AVAILABLE = False
    try:
        return datasets.load_dataset(
            params.path,
            params.config,
            split=params.split,
            revision=params.revision,
            streaming=True,
        )
    except Exception as error:  # whatever the hub, the network or the format raises
        raise unreachable(params, error) from error


def unreachable(params: Params, error: Exception) -> DataError:
    first_line = (str(error) or type(error).__name__).splitlines()[0]
    return DataError(
        f"cannot stream data set {params.path!r} (config {params.config}, split {params.split}): "
        f"{first_line}; check the name, HF_TOKEN, HF_HUB_OFFLINE and the network, or download it "
        "and give the folder as `path`"
    )
