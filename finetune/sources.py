"""Where labelled rows come from: files, and data sets of the `datasets` library.

A split of a data set becomes a JSONL file once, its class labels by name (also those of sequences,
as tags of words are), so that every task reads files only. Rows are written as they are read, never
held together in memory. The file's name ends with a fingerprint of what it was made from: another
split, configuration or revision, or a changed file of a local data set, is another file. Of a hub
id without `revision` a change on the hub is not noticed; name a revision where that matters.

Columns that JSON cannot hold (images, audio, bytes) are left out, and the log says so; dates are
written in ISO format; a class label that is not known (-1) is null, which tasks complain about.
"""

import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from finetune.task import Source, Split
from runtime import provenance
from runtime.errors import DataError

log = logging.getLogger("textmill")

BATCH = 1000  # rows converted at a time
NAME_DIGITS = 12  # of the fingerprint in a file's name


def local_file(source: Source, folder: Path, name: str) -> Path:
    """The file that holds these rows, written to `folder` by rank 0 if they come from elsewhere.
    All ranks call it; a failure is raised on all of them."""
    if isinstance(source, Path):
        return source
    from runtime import processes  # late: plans use this file, and need no torch

    path: Path | None = None
    fault: str | None = None
    if processes.rank() == 0:
        try:
            path = written(source, folder, name)
        except DataError as error:
            fault = str(error)
    path, fault = processes.from_rank_0((path, fault))
    if path is None:
        raise DataError(str(fault))
    return path


def written(split: Split, folder: Path, name: str) -> Path:
    """The JSONL file of a split, made if it is not there."""
    digits = provenance.fingerprint(fingerprint(split)).removeprefix("xxh3:")[:NAME_DIGITS]
    path = folder / f"{name}-{digits}.jsonl"
    if path.is_file():
        return path
    rows, left_out = rows_of(split)
    if left_out:
        log.info("%s: columns left out: %s", describe(split), ", ".join(left_out))
    folder.mkdir(parents=True, exist_ok=True)
    count = 0
    with provenance.atomic(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False, default=iso) + "\n")
            count += 1
        if not count:
            raise DataError(f"{describe(split)} holds no row; is it the right split?")
    provenance.fsync_folder(folder)
    return path


def rows_of(split: Split) -> tuple[Iterator[dict[str, Any]], list[str]]:
    """The rows with names for class labels, and the columns that were left out."""
    dataset = opened(split)
    left_out = [name for name, feature in dataset.features.items() if not is_plain(feature)]
    kept = dataset.remove_columns(left_out) if left_out else dataset
    convert = {name: named(feature) for name, feature in kept.features.items()}

    def rows() -> Iterator[dict[str, Any]]:
        for batch in kept.iter(batch_size=BATCH):
            for values in zip(*batch.values(), strict=True):
                row = dict(zip(batch, values, strict=True))
                yield {name: convert[name](value) for name, value in row.items()}

    return rows(), left_out


def opened(split: Split) -> Any:
    """The split as `datasets` maps it into memory."""
    import datasets  # late: slow to import, and most tasks read files
    from datasets.exceptions import DatasetsError

    if is_folder(split.dataset) and not Path(split.dataset).is_dir():
        raise DataError(f"the data set folder {split.dataset} does not exist; correct `dataset`")
    datasets.disable_progress_bars()
    try:
        return datasets.load_dataset(
            split.dataset, split.config, split=split.split, revision=split.revision
        )
    except (DatasetsError, OSError, ValueError, RuntimeError, KeyError) as error:
        raise DataError(complaint(split, error)) from None


def complaint(split: Split, error: Exception) -> str:
    """What went wrong, and what to do about it."""
    cause = error.__cause__ or error  # the library wraps what a reader of files says
    reason = (str(cause).strip() or type(cause).__name__).splitlines()[0]
    if Path(split.dataset).is_dir():
        advice = "check its files and the names of split and config"
    else:
        advice = (
            "check the id, split and config; without network load it once where there is one (the "
            "cache of `datasets`, HF_HOME, is used), or set `dataset` to a folder of its files"
        )
    return f"cannot read {describe(split)}: {reason}; {advice}"


def describe(split: Split) -> str:
    config = f", config {split.config!r}" if split.config else ""
    return f"split {split.split!r} of the data set {split.dataset!r}{config}"


def is_plain(feature: Any) -> bool:
    """True for what JSON can hold."""
    if isinstance(feature, dict):
        return all(map(is_plain, feature.values()))
    inner = getattr(feature, "feature", None)
    if inner is not None:  # a list
        return is_plain(inner)
    kind = str(getattr(feature, "dtype", ""))
    return type(feature).__name__ in ("Value", "ClassLabel") and "binary" not in kind


def named(feature: Any) -> Callable[[Any], Any]:
    """What writes a value of a column, with names for class labels at any depth."""
    if isinstance(feature, dict):
        parts = {name: named(inner) for name, inner in feature.items()}
        return lambda value: (
            None if value is None else {name: parts[name](value[name]) for name in parts}
        )
    if (inner := getattr(feature, "feature", None)) is not None:
        convert = named(inner)
        return lambda value: None if value is None else [convert(each) for each in value]
    if type(feature).__name__ == "ClassLabel":
        names = list(feature.names)
        return lambda value: None if value is None or value < 0 else names[value]
    return lambda value: value


def iso(value: Any) -> str:
    """Dates and times, which JSON lacks."""
    return str(value.isoformat()) if hasattr(value, "isoformat") else str(value)


def is_folder(name: str) -> bool:
    """True for what cannot be a hub id, or is there."""
    return Path(name).is_dir() or name.startswith((".", "/", "~")) or name.count("/") > 1


def fingerprint(source: Source) -> Any:
    """JSON that changes when the rows may have changed; loads nothing."""
    if isinstance(source, Path):
        return provenance.file_fingerprint(source)
    folder = Path(source.dataset)
    files = (path for path in folder.rglob("*") if path.is_file() and ".cache" not in path.parts)
    found = [[str(path.relative_to(folder)), provenance.file_fingerprint(path)] for path in files]
    return {**source.model_dump(mode="json"), "files": sorted(found)}


def missing(source: Source | None) -> bool:
    """True for a file that is not there."""
    return isinstance(source, Path) and not source.is_file()
