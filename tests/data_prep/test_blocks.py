"""Files of blocks: the bytes numpy writes, hashed as they pass."""

import io
from pathlib import Path

import numpy as np
import pytest
import xxhash

from data_prep import blocks
from data_prep.blocks import BlockFile, write_array


@pytest.mark.parametrize("cuts", [[], [1], [3, 4, 8]])
def test_parts_make_the_file_that_numpy_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cuts: list[int]
) -> None:
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 50)
    array = np.arange(36, dtype=np.uint16).reshape(9, 4)
    entry = write_array(tmp_path / "a.npy", iter(np.split(array, cuts)), array.shape)
    expected = io.BytesIO()
    np.save(expected, array)
    content = (tmp_path / "a.npy").read_bytes()
    assert content == expected.getvalue()
    assert entry == {
        "bytes": 200,
        "dtype": "uint16",
        "blocks": [xxhash.xxh3_64_hexdigest(content[i : i + 50]) for i in range(0, 200, 50)],
    }


def test_a_failed_write_leaves_nothing(tmp_path: Path) -> None:
    def parts():  # type: ignore[no-untyped-def]
        yield np.zeros(3)
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_array(tmp_path / "a.npy", parts(), (6,))
    assert list(tmp_path.iterdir()) == []


def test_each_block_is_checked_once_and_only_when_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 64)
    array = np.arange(40, dtype=np.int64)
    path = tmp_path / "a.npy"
    file = BlockFile(path, write_array(path, iter([array]), array.shape), (40,))
    checked: list[int] = []
    check = BlockFile.check

    def noted(self: BlockFile, block: int) -> None:
        checked.append(block)
        check(self, block)

    monkeypatch.setattr(BlockFile, "check", noted)
    assert file.rows(np.array([9, 0, 8])).tolist() == [9, 0, 8]  # 8 numbers a block, 2 of header
    assert checked == [2, 3]
    assert file.rows(np.array([39, 1])).tolist() == [39, 1]
    assert checked == [2, 3, 6]
    file.rows(np.arange(40))
    assert sorted(checked) == [2, 3, 4, 5, 6]
