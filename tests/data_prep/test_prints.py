"""The prints of a unit: hashes as text_hash says, whatever the batches, and sorted files."""

from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from data_prep import minhash, prints
from data_prep.dedup import Dedup, text_hash
from data_prep.documents import Document
from data_prep.prints import BAND, EXACT, Prints
from data_prep.work import Work
from tests.data_prep.conftest import texts

FOUND = [
    *texts(60, seed=3),
    "",
    " \n",
    "Ein\u00a0Maß",
    "ein  MASS",
    "数\u3000据",
    "a",
    "a b c d e f",
]


def saved(folder: Path, table: Dedup, found: list[str] = FOUND) -> Path:
    collected = Prints(table)
    for number, text in enumerate(found):
        collected.add(Document(f"d{number}", text, "one", "general"))
    collected.save(Work(folder), "read/one/000000")
    return folder / "read/one"


@pytest.mark.parametrize("compare", ["text", "words", "words_any_case"])
@pytest.mark.parametrize("near", [False, True])
def test_hashes_are_those_of_text_hash(
    tmp_path: Path, compare: Literal["text", "words", "words_any_case"], near: bool
) -> None:
    table = Dedup(compare=compare, near=near)
    folder = saved(tmp_path, table)
    hashes = np.load(folder / "000000.hashes.npy")
    assert hashes.tolist() == [list(text_hash(text, table)) for text in FOUND]
    rows = np.fromfile(folder / "000000.exact.bin", EXACT)
    assert rows["document"].tolist() == np.argsort(hashes[:, 0], kind="stable").tolist()
    assert (hashes[rows["document"]] == np.stack([rows["hash"], rows["low"]], axis=1)).all()


def test_files_do_not_depend_on_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = Dedup(near=True, lines=True, line_min_characters=10)
    whole = saved(tmp_path / "whole", table)
    monkeypatch.setattr(prints, "BATCH_DOCUMENTS", 7)
    monkeypatch.setattr(prints, "BATCH_CHARACTERS", 900)
    parts = saved(tmp_path / "parts", table)
    names = sorted(path.name for path in whole.iterdir())
    assert names == [
        "000000.bands.bin",
        "000000.characters.npy",
        "000000.exact.bin",
        "000000.hashes.npy",
        "000000.lines.bin",
        "000000.signatures.bin",
    ]
    for name in names:
        assert (whole / name).read_bytes() == (parts / name).read_bytes(), name


def test_signatures_and_bands(tmp_path: Path) -> None:
    table = Dedup(near=True, near_bins=64)
    folder = saved(tmp_path, table)
    signatures = np.fromfile(folder / "000000.signatures.bin", np.uint16).reshape(len(FOUND), 64)
    is_blank = np.array([not text.split() for text in FOUND])
    assert ((signatures == minhash.EMPTY).all(axis=1) == is_blank).all()
    bands = np.fromfile(folder / "000000.bands.bin", BAND)
    assert (bands["hash"][1:] >= bands["hash"][:-1]).all()
    counts = np.bincount(bands["document"], minlength=len(FOUND))
    assert (counts == np.where(is_blank, 0, table.bands[0])).all()


def test_sources_whose_lines_are_left_alone(tmp_path: Path) -> None:
    table = Dedup(lines=True, lines_except=("one",), line_min_characters=1)
    folder = saved(tmp_path, table)
    assert (folder / "000000.lines.bin").stat().st_size == 0
    sizes = np.load(folder / "000000.characters.npy")
    assert sizes.tolist() == [len(text) for text in FOUND]


def test_no_documents(tmp_path: Path) -> None:
    folder = saved(tmp_path, Dedup(near=True, lines=True), [])
    assert np.load(folder / "000000.hashes.npy").shape == (0, 2)
    assert all((folder / f"000000.{kind}.bin").stat().st_size == 0
               for kind in ("exact", "bands", "signatures", "lines"))  # fmt: skip
