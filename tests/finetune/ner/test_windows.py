"""Windows show what stands around their sentences, and score every word exactly once."""

import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from finetune.ner import tagged_text, windows
from finetune.ner.tagged_text import Sentence
from finetune.ner.tags import Span
from finetune.ner.windows import Located, Shape
from finetune.task import IGNORED, Window
from finetune.tokenizer import Template, Tokenizer
from tests.finetune.conftest import trained, wrap

TEMPLATE = Template(((101,), (102,)), (0,), ((0,), (0,)))  # [CLS] = 101 and [SEP] = 102
IDS = {"O": 0, "B-X": 1, "I-X": 2}


def document(*sizes: int, number: int | None = 0) -> list[Sentence]:
    """Sentences of so many words."""
    return [
        replace(tagged_text.from_words(["w"] * size, [], 1), document=number, place=place)
        for place, size in enumerate(sizes)
    ]


def located(rows: Sequence[Sentence]) -> list[Located]:
    """A token a word, numbered through the rows."""
    starts = np.cumsum([0, *(len(row.words) for row in rows)])
    return [
        Located(np.arange(a, b, dtype=np.int32), np.arange(b - a), np.arange(b - a))
        for a, b in itertools.pairwise(starts.tolist())
    ]


def made(rows: Sequence[Sentence], shape: Shape) -> list[Window]:
    targets = [np.zeros(len(row.words), dtype=np.int64) for row in rows]
    return windows.windows(rows, located(rows), targets, TEMPLATE, shape)


def seen(window: Window) -> tuple[list[int], list[int]]:
    """The tokens it shows, and those it scores."""
    return window.input_ids[1:-1].tolist(), window.input_ids[window.positions].tolist()


def test_without_context_a_window_is_a_sentence() -> None:
    found = made(document(3, 2), Shape(10, 2))
    assert [seen(window) for window in found] == [([0, 1, 2],) * 2, ([3, 4],) * 2]
    assert [window.row for window in found] == [0, 1]


def test_a_window_scores_neighbours_and_shows_both_sides() -> None:
    rows = document(3, 3, 3, 3)
    found = made(rows, Shape(capacity=20, overlap=2, shown=10, scored=6))
    assert [seen(window) for window in found] == [
        (list(range(10)), [0, 1, 2, 3, 4, 5]),  # nothing stands before: all room is behind
        (list(range(2, 12)), [6, 7, 8, 9, 10, 11]),
    ]
    assert [window.chains for window in found] == [(3, 3), (3, 3)]
    assert found[1].row == 2
    assert found[1].words.tolist() == [0, 1, 2, 3, 4, 5]


def test_context_is_as_much_on_either_side() -> None:
    found = made(document(9, 2, 9), Shape(capacity=20, overlap=2, shown=8, scored=2))
    assert seen(found[1]) == (list(range(6, 14)), [9, 10])


def test_documents_are_not_mixed() -> None:
    rows = [*document(2, 2, number=0), *document(2, number=1), *document(2, number=None)]
    found = made(rows, Shape(capacity=20, overlap=2, shown=20, scored=10))
    assert [seen(window)[0] for window in found] == [[0, 1, 2, 3], [4, 5], [6, 7]]


def test_a_copy_stands_where_its_original_does() -> None:
    rows = document(2, 2, 2)
    copy = replace(tagged_text.from_words(["c", "c"], [], 1), document=0, place=1)
    found = made([*rows, copy], Shape(capacity=20, overlap=2, shown=6, scored=6))
    assert [seen(window) for window in found] == [
        ([0, 1, 2, 3, 4, 5],) * 2,
        ([0, 1, 6, 7, 4, 5], [6, 7]),
    ]


def test_a_sentence_longer_than_a_window_becomes_several() -> None:
    rows = document(1, 20, 1)
    found = made(rows, Shape(capacity=10, overlap=4, shown=8, scored=4))
    assert [len(window.input_ids) for window in found] == [10, 12, 12, 12, 10]
    assert [window.row for window in found] == [0, 1, 1, 1, 2]
    assert [window.words.tolist() for window in found[1:4]] == [
        list(range(8)),
        list(range(8, 13)),
        list(range(13, 20)),
    ]


def test_owners_show_the_most_context() -> None:
    # Windows of 6 tokens at 0, 3 and 6 of 12: token 4 is 1 from the end of the first and 1 from
    # the start of the second, so the first keeps it; token 5 ends the first and is 2 inside the
    # second.
    owner = windows.owners(np.arange(12), [0, 3, 6], 6, 12)
    assert owner.tolist() == [0, 0, 0, 0, 0, 1, 1, 1, 2, 2, 2, 2]


@pytest.mark.parametrize("seed", range(8))
def test_every_word_is_scored_once_and_comes_back_to_its_row(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows = []
    for number in range(4):
        rows += document(
            *rng.integers(0, 30, size=5), number=number if rng.random() < 0.7 else None
        )
    capacity = int(rng.integers(4, 40))
    shown = int(rng.integers(1, capacity + 1)) if seed % 2 else 0
    shape = Shape(capacity, int(rng.integers(0, 9)), shown, max(1, shown // 2))
    found = made(rows, shape)
    assert max(len(window.input_ids) for window in found) <= capacity + 2
    assert all(sum(window.chain_sizes) == len(window.positions) for window in found)
    logits = [window.input_ids[window.positions][:, None].astype(np.float32) for window in found]
    outputs = windows.by_row(rows, found, logits)
    for each, output in zip(located(rows), outputs, strict=True):
        assert output.words.tolist() == each.words.tolist()
        assert output.scores[:, 0].tolist() == each.ids.tolist()


def test_a_word_scored_twice_is_our_own_mistake() -> None:
    rows = document(2)
    (window,) = made(rows, Shape(10, 2))
    logits = np.zeros((2, 3), dtype=np.float32)
    with pytest.raises(AssertionError, match="scored in two windows"):
        windows.by_row(rows, [window, window], [logits, logits])


def test_targets_are_valid_where_words_have_no_token() -> None:
    row = tagged_text.from_words(["a", "b", "c", "d"], [Span(0, 2, "X"), Span(2, 4, "Y")], 1)
    where = Located(np.arange(3, dtype=np.int32), np.arange(3), np.array([1, 2, 3]))
    assert windows.targets_of(row, where, IDS).tolist() == [1, IGNORED, IGNORED]
    row = tagged_text.from_words(["a", "b", "c", "d"], [Span(0, 3, "X")], 1)
    assert windows.targets_of(row, where, IDS).tolist() == [1, 2, 0]


def test_the_first_word_of_a_sentence_is_cut_like_any_other_by_byte_level_bpe() -> None:
    """Tokenizers of that family hold the space before a word in its token."""
    tokenizer = wrap(trained("bpe", ["ada visited oslo ada visited oslo"] * 9))
    assert windows.is_space_part_of_words(tokenizer)
    row = tagged_text.from_words(["oslo", "visited", "oslo"], [], 1)
    (found,) = windows.locate([row], tokenizer, Counter())
    assert found.ids[found.first[0]] == found.ids[found.first[2]]
    assert tokenizer.backend.id_to_token(int(found.ids[0])) == "Ġoslo"
    assert found.words.tolist() == [0, 1, 2]
    chinese = tagged_text.from_words(["北", "京"], [], 1)
    (found,) = windows.locate([chinese], tokenizer, Counter())
    assert found.ids.tolist() == tokenizer.tokens(["北京"])[0].ids.tolist()


@pytest.mark.parametrize("model", ["wordpiece", "unigram"])
def test_other_families_see_the_text_as_it_is(model: str, tokenizer: Tokenizer) -> None:
    if model == "unigram":
        tokenizer = wrap(trained(model, ["ada visited oslo plays and plays"] * 9))
    assert not windows.is_space_part_of_words(tokenizer)
