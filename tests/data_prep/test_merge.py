"""Which copies of documents and lines go, by hand-made examples, and the same in any ranges."""

import json
import random
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data_prep import merge as merging
from data_prep import near, ranges
from data_prep.dedup import Dedup
from data_prep.documents import Document
from data_prep.lines import Removed
from data_prep.merge import merge
from data_prep.prints import Prints
from data_prep.ranges import SortedRows
from data_prep.units import Unit
from data_prep.work import Work
from tests.data_prep.conftest import texts

Corpus = Mapping[str, Sequence[Sequence[str]]]  # texts by source and unit


def merged(
    folder: Path, corpus: Corpus, table: Dedup, range_rows: int = 1 << 19
) -> tuple[dict[str, Any], dict[str, list[list[str]]]]:
    """The journal, and the texts that are left."""
    work, units = Work(folder), []
    for source, listed in corpus.items():
        for number, found in enumerate(listed):
            prints = Prints(table)
            for place, text in enumerate(found):
                prints.add(Document(str(place), text, source, "general"))
            units.append(Unit(source, number, ()))
            prints.save(work, f"read/{units[-1].name}")
    places = {name: number for number, name in enumerate(corpus)}
    journal = merge(work, units, places, table, range_rows)
    assert not (folder / "merging").exists()
    left: dict[str, list[list[str]]] = {name: [] for name in corpus}
    for unit in units:
        rows = np.flatnonzero(np.load(folder / f"keep/{unit.name}.npy"))
        found = [corpus[unit.source][unit.number][row] for row in rows]
        left[unit.source].append(list(Removed.load(work, unit.name).without(rows, found)))
    assert json.loads(json.dumps(journal)) == journal
    return journal, left


def test_the_first_of_equal_texts_stays(tmp_path: Path) -> None:
    corpus = {"one": [["a", "b", "a"], ["c", " b"]], "two": [["c", "d", "d\n", "a"]]}
    journal, left = merged(tmp_path, corpus, Dedup())
    assert left == {"one": [["a", "b"], ["c"]], "two": [["d"]]}
    # rows: dropped from; columns: kept in
    assert journal["exact"] == [[2, 0], [2, 1]]
    assert journal["near"] == journal["lines"] == [[0, 0], [0, 0]]
    assert journal["emptied"] == [0, 0]


def test_nothing_goes_where_nothing_is_asked(tmp_path: Path) -> None:
    corpus = {"one": [["a", "a"], [], ["a"]]}
    _, left = merged(tmp_path, corpus, Dedup(exact=False))
    assert left == {"one": [["a", "a"], [], ["a"]]}
    journal, left = merged(tmp_path / "none", {"one": [[], []]}, Dedup(near=True, lines=True))
    assert left == {"one": [[], []]}
    assert journal["exact"] == [[0]]


def test_near_copies_go(tmp_path: Path) -> None:
    rng = random.Random(5)
    first, other = ([str(rng.randrange(10**6)) for _ in range(200)] for _ in range(2))
    changed = [*first[:50], "changed", *first[51:]]
    doubled = [*first, *first[:30]]
    corpus = {
        "one": [[" ".join(other)], [" ".join(first)]],
        "two": [
            [" ".join(changed), "short text"],
            [" ".join(doubled), "short texts", "short text"],
        ],
    }
    journal, left = merged(tmp_path, corpus, Dedup(near=True))
    assert left == {"one": corpus["one"], "two": [["short text"], ["short texts"]]}
    assert journal["near"] == [[0, 0], [2, 0]]
    assert journal["exact"] == [[0, 0], [0, 1]]


def test_a_chain_of_changes_keeps_its_far_end(tmp_path: Path) -> None:
    words = [str(number) for number in range(400)]
    chain = [" ".join(words[shift : shift + 200]) for shift in range(0, 101, 10)]
    _, left = merged(tmp_path, {"one": [chain]}, Dedup(near=True, near_threshold=0.8))
    kept = [chain.index(text) for text in left["one"][0]]
    assert kept[0] == 0
    # Neighbours share 186 of 206 n-grams (0.90), the next but one 176 of 216 (0.81).
    assert all(1 < after - before <= 3 for before, after in pairwise(kept))


def line(name: str) -> str:
    return f"a line with {name} that is long enough to count"


def test_the_first_of_equal_lines_stays(tmp_path: Path) -> None:
    header = f"{line('menus')}\n\n{line('cookies')}"
    body = "\n".join(line(f"own {number}") for number in range(4))
    corpus = {
        "one": [[f"{header}\n\n{body} A\n}}\n", f"  {header}\n\n{body} B\n}}\n"]],
        "two": [
            [f"x\n\n{line('menus')}\n\ny", f"x\n\n{line('cookies')}\n\nA longer own line: {body}"]
        ],
    }
    journal, left = merged(tmp_path, corpus, Dedup(lines=True, min_left_characters=20))
    body_a, body_b = corpus["one"][0][0], f"{line('own 3')} B\n}}\n"
    assert left == {
        "one": [[body_a, body_b]],
        "two": [[f"x\n\nA longer own line: {line('own 0')}\n{line('own 3')}"]],
    }
    # The second of "one" loses 2 + 3 lines; of "two" the first is emptied, the second loses 3.
    assert journal["lines"] == [[5, 0], [3, 0]]
    size = [len(line(name)) + 1 for name in ("menus", "cookies", "own 0", "own 1", "own 2")]
    assert journal["line_characters"] == [[sum(size) + 2, 0], [sum(size[1:2] + size[3:]), 0]]
    assert journal["emptied"] == [0, 1]


def test_lines_of_documents_that_went_do_not_count(tmp_path: Path) -> None:
    text = " ".join(str(number) for number in range(300))
    corpus = {"one": [[text, f"{line('new')}\n{text}"]], "two": [[f"own\n{line('new')}\nown"]]}
    table = Dedup(near=True, lines=True, min_left_characters=0)
    journal, left = merged(tmp_path, corpus, table)
    assert left == {"one": [[text]], "two": [[f"own\n{line('new')}\nown"]]}
    assert journal["near"] == [[1, 0], [0, 0]]


def random_corpus(unit_documents: int, seed: int = 7) -> Corpus:
    """Texts with equal, near and line copies all over, in units of any size."""
    rng = random.Random(seed)
    found = texts(150, seed)
    shared = [line(f"number {number}") for number in range(12)]
    for _ in range(150):
        words = rng.choice(found[:150]).split(" ")
        for _ in range(rng.choice([0, 0, 1, 3, 20])):
            words[rng.randrange(len(words))] = "changed"
        found.append(" ".join(words))
    for number in range(0, len(found), 2):
        found[number] += "\n" + "\n\n".join(rng.choices(shared, k=3))
    rng.shuffle(found)
    sources = {"one": found[:120], "two": found[120:180], "three": found[180:]}
    return {
        name: [listed[i : i + unit_documents] for i in range(0, len(listed), unit_documents)]
        for name, listed in sources.items()
    }


TABLE = Dedup(near=True, near_threshold=0.7, lines=True, min_left_characters=50)


def flat(left: dict[str, list[list[str]]]) -> dict[str, list[str]]:
    return {name: [text for unit in units for text in unit] for name, units in left.items()}


def test_the_same_goes_in_any_ranges_and_units(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal, left = merged(tmp_path / "whole", random_corpus(1000), TABLE)
    assert min(np.sum(journal[kind]) for kind in journal) > 0
    monkeypatch.setattr(near, "SCAN_DOCUMENTS", 17)
    monkeypatch.setattr(near, "PAIRS", 5)
    monkeypatch.setattr(merging, "PIECE_ROWS", 1)
    for unit_documents, range_rows in ((1000, 8), (40, 16), (7, 64), (13, 1 << 19)):
        folder = tmp_path / f"{unit_documents}-{range_rows}"
        found = merged(folder, random_corpus(unit_documents), TABLE, range_rows)
        assert found[0] == journal, (unit_documents, range_rows)
        assert flat(found[1]) == flat(left)


def test_all_is_counted_and_nothing_goes_twice(tmp_path: Path) -> None:
    corpus = random_corpus(50)
    journal, left = merged(tmp_path / "first", corpus, TABLE)
    for number, name in enumerate(corpus):
        came = sum(map(len, corpus[name]))
        gone = sum(journal["exact"][number]) + sum(journal["near"][number])
        assert came == sum(map(len, left[name])) + gone + journal["emptied"][number]
    lines = [part for text in flat(left)["one"] + flat(left)["two"] + flat(left)["three"]
             for part in text.split("\n") if len(part.strip()) >= 30]  # fmt: skip
    assert len(lines) == len(set(map(str.strip, lines)))
    again, _ = merged(tmp_path / "second", left, TABLE)
    assert not np.any(again["exact"])
    assert not np.any(again["lines"])


def test_rows_are_read_once_and_a_range_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory does not grow with the corpus: what is held between two blocks is bounded, and little
    more is read than that."""
    given: dict[str, int] = {}
    reads: list[int] = []
    largest = 0
    below, read, block_of = SortedRows.below, SortedRows.read, ranges.block_of

    def counted_below(self: SortedRows, *told: Any) -> Iterator[Any]:
        for rows in below(self, *told):
            given[str(self.path)] = given.get(str(self.path), 0) + len(rows)
            yield rows

    def counted_read(self: SortedRows, descriptor: int, start: int, count: int) -> Any:
        reads.append(count)
        return read(self, descriptor, start, count)

    def counted_block(held: Any, units: Any) -> Any:
        nonlocal largest
        largest = max(largest, sum(map(len, held)))
        return block_of(held, units)

    monkeypatch.setattr(merging, "PIECE_ROWS", 1)
    monkeypatch.setattr(SortedRows, "below", counted_below)
    monkeypatch.setattr(SortedRows, "read", counted_read)
    monkeypatch.setattr(ranges, "block_of", counted_block)
    same = f"{line('everywhere')}\n{line('other')}"
    corpus = {"one": [[f"{same}\n{text}" for text in texts(50, unit)] for unit in range(8)]}
    merged(tmp_path, corpus, Dedup(lines=True), range_rows=64)
    files = [path for path in tmp_path.rglob("*.bin") if path.stat().st_size]
    assert {path: 20 * rows for path, rows in given.items()} == {
        str(path): path.stat().st_size for path in files
    }
    assert largest <= 2 * 64
    assert max(reads) <= 64


def test_units_are_opened_for_many_rows_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ranges grow with the number of units, else each file would be opened for a row or two."""
    reads: list[int] = []
    read = SortedRows.read

    def counted_read(self: SortedRows, descriptor: int, start: int, count: int) -> Any:
        found = read(self, descriptor, start, count)
        reads.append(len(found))
        return found

    monkeypatch.setattr(SortedRows, "read", counted_read)
    monkeypatch.setattr(merging, "PIECE_ROWS", 32)
    corpus = {"one": [texts(100, unit) for unit in range(20)]}
    merged(tmp_path, corpus, Dedup(), range_rows=1)
    assert len(reads) <= 20 * 100 / 32 * 3  # powers of two cost up to a factor of two
