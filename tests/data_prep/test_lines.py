"""Texts without repeated lines, and the prints they are found by."""

from pathlib import Path

import numpy as np
import pytest
import xxhash

from data_prep.lines import LINE, LinePrints, Removed, kept_text
from data_prep.work import Work, save_array


@pytest.mark.parametrize(
    ("text", "drop", "left"),
    [
        ("a\nb\nc\n", [1], "a\nc\n"),
        ("a\nb\nc\n", [], "a\nb\nc\n"),
        ("a\n\nx\n\nb", [2], "a\n\nb"),  # blank lines on both sides become one
        ("a\n\n\nx\n \n\nb", [3], "a\n\n\nb"),  # those before it stay as they were
        ("a\nx\n\n\nb", [1], "a\n\n\nb"),
        ("a\n\nx\n\ny\n\nb\n\n\nc", [2, 4], "a\n\nb\n\n\nc"),
        ("x\n\na", [0], "a"),
        ("a\n\nx\n", [2], "a\n"),
        ("x\ny\n", [0, 1], ""),
        ("    if a:\n        x\n    else:\n", [1], "    if a:\n    else:\n"),
        ("a\r\nx\r\nb\u2028c", [1], "a\r\nb\u2028c"),  # newline alone ends a line
    ],
)
def test_kept_text(text: str, drop: list[int], left: str) -> None:
    assert kept_text(text, drop) == left


def test_prints_of_lines(tmp_path: Path) -> None:
    prints = LinePrints(5)
    prints.add("abcde\n  abcd   \n\tvwxyz \n数据模型文本")
    prints.skip("abcdefgh")
    prints.add("")
    prints.add("abcde")
    work = Work(tmp_path)
    prints.save(work, "read/one/000000")
    rows = np.fromfile(tmp_path / "read/one/000000.lines.bin", LINE)
    assert sorted(rows[["document", "line", "characters"]].tolist()) == [
        (0, 0, 6),
        (0, 2, 8),
        (0, 3, 7),
        (3, 0, 6),
    ]
    assert (np.diff(rows["hash"].astype(object)) >= 0).all()
    expected = [xxhash.xxh3_64_intdigest(t.encode()) for t in ("abcde", "vwxyz", "数据模型文本")]
    assert set(rows["hash"].tolist()) == set(expected)
    assert np.load(tmp_path / "read/one/000000.characters.npy").tolist() == [30, 8, 0, 5]


def test_removed_lines_of_some_documents(tmp_path: Path) -> None:
    work = Work(tmp_path)
    rows = np.array([[1, 0], [1, 2], [4, 1]], np.uint32)
    save_array(work.path("keep/one/000000", ".lines.npy"), rows)
    removed = Removed.load(work, "one/000000")
    texts = ["a\nb\nc", "d\ne\nf", "g\nh"]
    assert list(removed.without(np.array([0, 1, 4]), texts)) == ["a\nb\nc", "e", "g"]
    assert list(removed.without(np.array([2, 3]), texts[:2])) == texts[:2]
    assert list(Removed.load(work, "other/000000").without(np.array([0]), ["a"])) == ["a"]


def test_a_line_is_the_same_in_any_text(tmp_path: Path) -> None:
    prints = LinePrints(5)
    prints.add("\x1c a line \t\x1f\nother")
    prints.add("a line\r\n数")
    work = Work(tmp_path)
    prints.save(work, "read/one/000000")
    rows = np.sort(np.fromfile(tmp_path / "read/one/000000.lines.bin", LINE), order="document")
    own = [row["hash"] for row in rows if row["line"] == 0]
    assert len(rows) == 3
    assert own[0] == own[1] == xxhash.xxh3_64_intdigest(b"a line")
