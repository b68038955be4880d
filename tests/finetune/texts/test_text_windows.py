"""Long texts: what is cut is counted, windows cover everything, their outputs are averaged."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from finetune.encoder import load_tokenizer
from finetune.task import Encoded
from finetune.tasks.classification import Params
from finetune.texts import text_windows
from finetune.texts.labelled_text import Row
from finetune.tokenizer import Tokenizer
from tests.finetune.conftest import wordpiece, write_encoder

CLS, SEP = 2, 3


def params(**more: Any) -> Params:
    return Params.model_validate({"train": Path("x"), **more})


def encode(rows: list[tuple[str, ...]], tokenizer: Tokenizer, length: int, **more: Any) -> Encoded:
    found = [Row(texts, "a", i) for i, texts in enumerate(rows)]
    target = np.zeros(1, dtype=np.int64)
    return text_windows.encode(found, tokenizer, params(**more), length, lambda row: target)


def ids(*sizes: int) -> list[Any]:
    """Texts of tokens 1, 2, 3, ..."""
    return [np.arange(1, size + 1, dtype=np.int32) for size in sizes]


def shown(found: list[list[Any]]) -> list[list[list[int]]]:
    return [[part.tolist() for part in parts] for parts in found]


def test_the_end_is_cut_and_counted(tokenizer: Tokenizer) -> None:
    encoded = encode([("ada " * 9,), ("bob",), ("",)], tokenizer, 8)
    assert [len(window.input_ids) for window in encoded.windows] == [8, 3, 2]
    assert encoded.counts == {"tokens": 10, "rows_cut": 1, "tokens_cut": 3}
    assert encoded.windows[0].input_ids[-1] == SEP
    assert encoded.windows[2].input_ids.tolist() == [CLS, SEP]  # an empty text is an input


def test_head_and_tail_stay() -> None:
    counts: Counter[str] = Counter()
    found = text_windows.fitted(ids(20), 8, params(long_texts="head_tail"), counts)
    assert shown(found) == [[[1, 2, 15, 16, 17, 18, 19, 20]]]
    assert counts == {"tokens": 20, "rows_cut": 1, "tokens_cut": 12}
    found = text_windows.fitted(ids(20, 2), 8, params(long_texts="head_tail"), counts)
    assert shown(found) == [[[1, 16, 17, 18, 19, 20], [1, 2]]]


def test_windows_overlap_and_cover_the_text() -> None:
    counts: Counter[str] = Counter()
    given = params(long_texts="windows", window_overlap=1)
    assert shown(text_windows.fitted(ids(8), 4, given, counts)) == [
        [[1, 2, 3, 4]],
        [[4, 5, 6, 7]],
        [[5, 6, 7, 8]],
    ]
    assert counts == {"tokens": 8, "rows_in_windows": 1, "windows_of_them": 3}
    assert shown(text_windows.fitted(ids(4), 4, given, counts)) == [[[1, 2, 3, 4]]]


def test_windows_of_a_pair_keep_the_shorter_text() -> None:
    counts: Counter[str] = Counter()
    given = params(long_texts="windows", window_overlap=0)
    assert shown(text_windows.fitted(ids(2, 6), 5, given, counts)) == [
        [[1, 2], [1, 2, 3]],
        [[1, 2], [4, 5, 6]],
    ]
    assert "rows_cut" not in counts
    # Both are longer than half: the longer one becomes windows, the other is cut.
    assert shown(text_windows.fitted(ids(4, 5), 5, given, counts)) == [
        [[1, 2, 3], [1, 2]],
        [[1, 2, 3], [3, 4]],
        [[1, 2, 3], [4, 5]],
    ]
    assert (counts["rows_cut"], counts["tokens_cut"]) == (1, 1)


@pytest.mark.parametrize("long_texts", ["cut", "head_tail", "windows"])
def test_nothing_is_lost_uncounted(long_texts: str) -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        sizes = rng.integers(0, 30, size=rng.integers(1, 3)).tolist()
        capacity = int(rng.integers(5, 20))
        overlap = int(rng.integers(0, 9))
        given = params(long_texts=long_texts, window_overlap=overlap)
        counts: Counter[str] = Counter()
        found = text_windows.fitted(ids(*sizes), capacity, given, counts)
        assert found
        assert all(sum(map(len, parts)) <= capacity for parts in found)
        seen = [set(np.concatenate(column).tolist()) for column in zip(*found, strict=True)]
        assert sum(map(len, seen)) == sum(sizes) - counts["tokens_cut"]


@pytest.mark.parametrize(
    ("sizes", "capacity", "kept"),
    [((9, 2), 6, [4, 2]), ((2, 9), 6, [2, 4]), ((9, 9), 7, [4, 3]), ((3, 9), 6, [3, 3])],
)
def test_room_of_pairs(sizes: tuple[int, int], capacity: int, kept: list[int]) -> None:
    assert text_windows.rooms(sizes, capacity) == kept


def test_pairs_have_token_types_if_the_model_has_them(tokenizer: Tokenizer) -> None:
    row = ("ada " * 9, "bob met")
    (window,) = encode([row], tokenizer, 9, text_pair_field="pair").windows
    assert window.token_type_ids is not None
    assert window.token_type_ids.tolist() == [0] * 6 + [1] * 3  # [CLS] 4 ada [SEP], bob met [SEP]
    without = Tokenizer(wordpiece(), 0, CLS, SEP, has_types=False)
    (window,) = encode([row], without, 9, text_pair_field="pair").windows
    assert window.token_type_ids is None


def test_outputs_of_windows_are_averaged(tokenizer: Tokenizer) -> None:
    encoded = encode(
        [("bob",), ("ada " * 8,)], tokenizer, 6, long_texts="windows", window_overlap=0
    )
    assert [window.row for window in encoded.windows] == [0, 1, 1]
    values = np.array([[1.0, 0.0], [0.5, 2.0], [0.1, 4.0]])
    found = text_windows.averaged(values, encoded, 2)
    assert found.tolist() == [[1.0, 0.0], [pytest.approx(0.3), 3.0]]


@pytest.mark.parametrize(("architecture", "has_types"), [("bert", True), ("modernbert", False)])
def test_a_models_folder_says_whether_it_has_token_types(
    tmp_path: Path, architecture: str, has_types: bool
) -> None:
    loaded, _ = load_tokenizer(write_encoder(tmp_path, architecture))
    (window,) = encode([("ada", "bob")], loaded, 9, text_pair_field="pair").windows
    assert (window.token_type_ids is not None) == has_types
