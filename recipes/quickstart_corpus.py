"""Build the quickstart's corpus and tasks from the Python environment that runs this script.

    python recipes/quickstart_corpus.py FOLDER

Four domains, one document a line as {"id", "text"}:

    corpus/topics.jsonl      the language reference that ships as pydoc_data.topics
    corpus/docstrings.jsonl  docstrings of the standard library and of LIBRARIES, read by `ast`
    corpus/sources.jsonl     the same files without docstrings and other long strings
    corpus/licences.jsonl    licence files of Python, of installed packages and of the system

and two tasks whose labels the text carries itself, each as train, dev and test:

    tasks/mentions/   Sphinx roles: in "see :func:`sort`" the markup is removed and the role says
                      what kind of thing is mentioned; {"id", "text", "spans"}
    tasks/order/      word order: of every second docstring some neighbouring words are swapped, and
                      the label says so; {"id", "text", "label", "original"}

Every source file belongs to one split by the hash of its path. Nothing from a dev or test file goes
into the corpus or a training split, nor does a docstring that such a file repeats word for word;
dev and test rows that share OVERLAP_WORDS words in a row with what is trained on are dropped. All
of this is verified on the written files, and the counts are printed and kept in manifest.json.

Standard library and xxhash only, no third-party code is imported. The same environment gives the
same bytes; FOLDER is replaced as a whole, and left alone when it is current.
"""

import argparse
import json
import os
import platform
import shutil
import sys
import sysconfig
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

from quickstart_text import (
    OVERLAP_WORDS,
    Document,
    File,
    Places,
    as_written,
    extract,
    hash_of,
    licences,
    order_row,
    row_runs,
    split_of,
    topics,
    word_runs,
)

from runtime import provenance
from runtime.errors import DataError, run_command

STANDARD_LIBRARY = "python"
LIBRARIES = (
    STANDARD_LIBRARY, "torch", "transformers", "sympy", "pandas", "scipy", "sklearn", "numpy",
    "matplotlib", "networkx",
)  # fmt: skip
SPLITS = ("train", "dev", "test")
Rows = list[dict[str, Any]]
Corpus = dict[str, list[Document]]


@dataclass(frozen=True)
class Limits:
    """How much is read and written; bytes are per library."""

    source_bytes: int = 10_000_000  # of .py files parsed
    docstring_bytes: int = 800_000  # kept in the corpus
    code_bytes: int = 350_000  # kept in the corpus
    mentions: tuple[int, int, int] = (1500, 300, 500)  # rows of train, dev, test
    order: tuple[int, int, int] = (600, 150, 300)  # rows of train, dev, test with each label


def shuffled(rows: Iterable[Any], key: Callable[[Any], str]) -> list[Any]:
    """An order that depends on the keys alone."""
    return sorted(rows, key=lambda row: (hash_of(key(row)), key(row)))


def library_files(library: str, places: Places, limits: Limits) -> list[tuple[str, Path]]:
    """The (name, path) of the source files of a library that are read, in a fixed order."""
    is_standard = library == STANDARD_LIBRARY
    root = places.standard_library if is_standard else places.packages / library
    skipped = {"test", "tests", "site-packages", "dist-packages", "pydoc_data", "lib2to3"}
    found = []
    for path in root.rglob("*.py"):
        relative = path.relative_to(root)
        if not skipped.intersection(relative.parts):
            found.append((f"{library}/{relative.as_posix()}", path))
    kept, total = [], 0
    for name, path in shuffled(found, key=lambda row: str(row[0])):
        total += path.stat().st_size
        if total > limits.source_bytes:
            break
        kept.append((name, path))
    return sorted(kept)


def within(documents: Iterable[Document], num_bytes: int) -> list[Document]:
    """At most this many bytes of each library, chosen by hash, in the order of ids."""
    kept: list[Document] = []
    totals: Counter[str] = Counter()
    for document in shuffled(documents, key=lambda row: str(row.id)):
        size = len(document.text.encode("utf-8", errors="replace"))
        if totals[document.library] + size <= num_bytes:
            totals[document.library] += size
            kept.append(document)
    return sorted(kept, key=lambda row: row.id)


def read_files(places: Places, limits: Limits) -> list[File]:
    """Parse the source files of all libraries, in a fixed order whatever the number of cores."""
    named = [row for library in LIBRARIES for row in library_files(library, places, limits)]
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        names, paths = [name for name, _ in named], [path for _, path in named]
        return list(pool.map(extract, names, paths, chunksize=64))


def build_corpus(files: list[File], repeats: set[str], places: Places, limits: Limits) -> Corpus:
    """The documents of the four domains; of source files only those of the training split."""
    training = [file for file in files if file.split == "train"]
    return {
        "topics": list(topics(places)),
        "docstrings": within(
            (row for file in training for row in file.docstrings if row.id not in repeats),
            limits.docstring_bytes,
        ),
        "sources": within(
            (file.code for file in training if file.code is not None), limits.code_bytes
        ),
        "licences": list(licences(places)),
    }


def candidates(files: list[File], repeats: set[str]) -> dict[str, dict[str, Rows]]:
    """All rows of both tasks, by task and split, each text once, in hash order."""
    rows: dict[str, dict[str, Rows]] = {
        task: {split: [] for split in SPLITS} for task in ("mentions", "order")
    }
    for file in files:
        rows["mentions"][file.split] += [
            row for row in file.mentions if str(row["id"]).rpartition("/")[0] not in repeats
        ]
        rows["order"][file.split] += [
            row
            for document in file.docstrings
            if document.id not in repeats and (row := order_row(document))
        ]
    return {
        task: {split: distinct(found) for split, found in splits.items()}
        for task, splits in rows.items()
    }


def distinct(rows: Rows) -> Rows:
    """Each text once: the row that comes first in hash order."""
    ordered = shuffled(rows, key=lambda row: str(row["id"]))
    return list({row["text"]: row for row in reversed(ordered)}.values())[::-1]


def first_of_each(rows: Rows, count: int) -> Rows:
    """The first rows of each label, `count` at most."""
    taken: Counter[str] = Counter()
    kept = []
    for row in rows:
        if taken[row["label"]] < count:
            taken[row["label"]] += 1
            kept.append(row)
    return kept


def shared_runs(rows: Iterable[dict[str, Any]], trained_on: Iterable[str]) -> set[str]:
    """The word runs of these rows that occur in what is trained on."""
    wanted = {run for row in rows for run in row_runs(row)}
    return {run for text in trained_on for run in word_runs(text) if run in wanted}


def build_tasks(
    found: dict[str, dict[str, Rows]], corpus: Corpus, limits: Limits
) -> tuple[dict[str, dict[str, Rows]], dict[str, int]]:
    """The rows of each task and split, and how many held-out rows were dropped for overlap."""

    def chosen(task: str, split: str, rows: Rows) -> Rows:
        place = SPLITS.index(split)
        if task == "order":
            return first_of_each(rows, limits.order[place])
        return rows[: limits.mentions[place]]

    tasks = {
        task: {"train": chosen(task, "train", splits["train"])} for task, splits in found.items()
    }
    trained_on = [row.text for rows in corpus.values() for row in rows]
    trained_on += [as_written(row) for splits in tasks.values() for row in splits["train"]]
    held_out = [row for splits in found.values() for s in SPLITS[1:] for row in splits[s]]
    shared = shared_runs(held_out, trained_on)
    dropped: Counter[str] = Counter()
    for task, splits in found.items():
        for split in SPLITS[1:]:
            clean = [row for row in splits[split] if shared.isdisjoint(row_runs(row))]
            dropped[f"{task}/{split}"] = len(splits[split]) - len(clean)
            tasks[task][split] = chosen(task, split, clean)
    return tasks, dict(dropped)


def write_rows(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    path.write_bytes(lines.encode("utf-8", errors="replace"))  # sources may hold lone surrogates


def read_rows(path: Path) -> Rows:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def check_splits(folder: Path) -> dict[str, int]:
    """Prove on the written files that nothing held out is trained on; return what was compared.

    Raises DataError naming the first row that is.
    """
    files = {
        name: read_rows(folder / "corpus" / f"{name}.jsonl") for name in ("docstrings", "sources")
    }
    trained = [row for rows in files.values() for row in rows]
    other = [row for n in ("topics", "licences") for row in read_rows(folder / f"corpus/{n}.jsonl")]
    held_out: Rows = []
    for task in ("mentions", "order"):
        for split in SPLITS:
            rows = read_rows(folder / "tasks" / task / f"{split}.jsonl")
            if stray := next((r for r in rows if split_of(file_name(r)) != split), None):
                raise DataError(f"{stray['id']} is in {task}/{split}: its file is of another split")
            (trained if split == "train" else held_out).extend(rows)
    if stray := next((row for row in trained if split_of(file_name(row)) != "train"), None):
        raise DataError(f"{stray['id']} is trained on: its file is held out")
    texts = [as_written(row) for row in trained + other]
    shared = shared_runs(held_out, texts)
    for row in held_out:
        if not shared.isdisjoint(row_runs(row)):
            raise DataError(f"{row['id']} is held out and shares words with what is trained on")
    return {
        "trained_texts": len(texts),
        "held_out_rows": len(held_out),
        "trained_files": len({file_name(row) for row in trained}),
        "held_out_files": len({file_name(row) for row in held_out}),
        "files_in_both": 0,
        "word_runs_in_both": len(shared),
    }


def file_name(row: dict[str, Any]) -> str:
    """The source file a document or row comes from."""
    return str(row["id"]).partition("#")[0]


def build(folder: Path, places: Places, limits: Limits) -> dict[str, Any]:
    """Write corpus and tasks below `folder`; return what was read, written and left out."""
    files = read_files(places, limits)
    held_out = {row.text for file in files if file.split != "train" for row in file.docstrings}
    repeats = {
        row.id
        for file in files
        if file.split == "train"
        for row in file.docstrings
        if row.text in held_out
    }
    corpus = build_corpus(files, repeats, places, limits)
    tasks, dropped = build_tasks(candidates(files, repeats), corpus, limits)
    for name, documents in corpus.items():
        rows = ({"id": row.id, "text": row.text} for row in documents)
        write_rows(folder / "corpus" / f"{name}.jsonl", rows)
    for task, splits in tasks.items():
        for split, chosen in splits.items():
            write_rows(folder / "tasks" / task / f"{split}.jsonl", chosen)
    return {
        "files_read": {s: sum(file.split == s for file in files) for s in SPLITS},
        "files_unreadable": sum(file.num_unreadable for file in files),
        "sources_cut_at_characters": sum(file.num_cut for file in files),
        "training_docstrings_repeated_in_held_out_files": len(repeats),
        "held_out_rows_dropped_for_overlap": dropped,
        "corpus": {
            name: {"documents": len(rows), "bytes": sum(len(row.text.encode()) for row in rows)}
            for name, rows in corpus.items()
        },
        "tasks": {
            task: {split: len(rows) for split, rows in splits.items()}
            for task, splits in tasks.items()
        },
        "checked": check_splits(folder),
    }


def inputs_of(places: Places, limits: Limits) -> str:
    """Fingerprint of all the result depends on: this code, Python, packages, limits."""
    packages = sorted(
        f"{found.metadata['Name']} {found.version}"
        for found in distributions(path=[str(places.packages)])
    )
    code = provenance.files_fingerprint(Path(__file__).parent.glob("quickstart_*.py"))
    return provenance.fingerprint(
        [code, platform.python_version(), str(places.standard_library), packages, asdict(limits)]
    )


def replace_folder(folder: Path, places: Places, limits: Limits) -> None:
    """Build beside the folder and swap; skip when it is current, refuse what is not ours."""
    manifest = folder / "manifest.json"
    inputs = inputs_of(places, limits)
    if manifest.is_file():
        found = provenance.read_json(manifest)
        if found.get("inputs") == inputs:
            print(f"quickstart corpus: up to date in {folder}")
            return
    elif folder.exists() and any(folder.iterdir()):
        raise DataError(f"{folder} is not empty and holds no quickstart corpus; name another one")
    folder.parent.mkdir(parents=True, exist_ok=True)
    new = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    old = folder.with_name(f".{folder.name}.{os.getpid()}.old")
    try:
        counts = build(new, places, limits)
        provenance.write_json(new / "manifest.json", {"inputs": inputs, **counts})
        if folder.exists():
            folder.rename(old)
        new.rename(folder)
    finally:
        shutil.rmtree(new, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)
    describe(folder, counts)


def describe(folder: Path, counts: dict[str, Any]) -> None:
    """Print what was built the way a person wants to know it."""
    print(f"quickstart corpus in {folder}")
    for name, size in counts["corpus"].items():
        print(f"  {name:<11}{size['documents']:>7,} documents  {size['bytes'] / 1e6:>6.2f} MB")
    for task, splits in counts["tasks"].items():
        print(f"  {task:<11}" + "  ".join(f"{n:,} {split}" for split, n in splits.items()))
    checked = counts["checked"]
    print(
        f"  verified: {checked['held_out_rows']:,} held-out rows of {checked['held_out_files']:,} "
        f"files share no file and no run of {OVERLAP_WORDS} words with "
        f"{checked['trained_texts']:,} texts of {checked['trained_files']:,} training files"
    )
    dropped = sum(counts["held_out_rows_dropped_for_overlap"].values())
    print(
        f"  left out: {counts['training_docstrings_repeated_in_held_out_files']:,} training "
        f"docstrings that held-out files repeat, {dropped:,} held-out rows that overlap"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description="Build the quickstart's corpus and tasks.")
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    places = Places(Path(sysconfig.get_path("stdlib")), Path(sysconfig.get_path("purelib")))
    return run_command(lambda: replace_folder(folder, places, Limits()))


if __name__ == "__main__":
    sys.exit(main())
