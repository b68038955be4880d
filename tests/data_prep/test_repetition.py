"""Gopher's repetition rules, by texts that can be counted by hand."""

from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep.clean.repetition import Params, clean, duplicate_share, windows
from data_prep.documents import Document, Reject
from data_prep.facts import Facts, copies

OFF: dict[str, Any] = dict.fromkeys(set(Params.model_fields) - {"step"}, 1.0)


def reason(text: str, **settings: Any) -> str | None:
    result = clean(Document("id", text, "s", "d"), Params.model_validate(OFF | settings))
    return result.reason if isinstance(result, Reject) else None


@pytest.mark.parametrize(
    ("field", "text", "share"),
    [
        ("duplicate_lines", "a\nb\n\n a\nc", 1 / 4),
        ("duplicate_line_characters", "aa\nbbbb\naa\ncc", 2 / 10),
        ("duplicate_paragraphs", "a\nb\n\na\nb\n\nc", 1 / 3),
        ("duplicate_paragraph_characters", "ab cd\n\nab cd\n\nxyz xyz", 5 / 17),
        # "a b" twice, "b a" once: 2 x 2 of 8 characters
        ("top_2gram", "a b a b cccc", 4 / 8),
        # of the two most frequent ones the longer counts
        ("top_2gram", "a b a b cc dd cc dd", 8 / 12),
        ("top_3gram", "a b c a b c ddd", 6 / 9),
        ("top_4gram", "a b c d a b c d ee", 8 / 10),
        # The second "a b c d e": 5 of 11 characters.
        ("duplicate_5grams", "a b c d e x a b c d e", 5 / 11),
        # Copies that overlap: "a b c d e f" again is two 5-grams, six characters.
        ("duplicate_5grams", "a b c d e f x a b c d e f", 6 / 13),
        ("duplicate_6grams", "a b c d e f x a b c d e f", 6 / 13),
        ("duplicate_10grams", "a b c d e f g h i j x a b c d e f g h i j", 10 / 21),
    ],
)
def test_share_and_its_boundary(field: str, text: str, share: float) -> None:
    assert reason(text, **{field: share}) is None
    found = reason(text, **{field: share - 1e-9})
    assert found is not None
    assert found.startswith("repetition: more than")


def test_once_is_no_repetition() -> None:
    assert reason("one two", top_2gram=0.0) is None
    assert reason("one two three four five", top_2gram=0.0, top_4gram=0.0) is None
    assert reason("a b c d e f g h i j k", duplicate_5grams=0.0) is None
    assert reason("", **dict.fromkeys(OFF, 0.0)) is None


def test_published_thresholds() -> None:
    params = Params()
    assert (params.duplicate_lines, params.duplicate_line_characters) == (0.3, 0.2)
    assert (params.top_2gram, params.top_3gram, params.top_4gram) == (0.2, 0.18, 0.16)
    shares = [getattr(params, f"duplicate_{n}grams") for n in range(5, 11)]
    assert shares == [0.15, 0.14, 0.13, 0.12, 0.11, 0.10]


def test_two_chinese_characters_count_as_a_word() -> None:
    text = "天地玄黄宇宙洪荒日月" + "盈昃辰宿列张" + "天地玄黄宇宙洪荒日月"
    assert reason(text, duplicate_5grams=10 / 26) is None
    assert reason(text, duplicate_5grams=10 / 26 - 1e-9) is not None
    assert reason("天地玄黄盈昃天地玄黄", duplicate_5grams=0.0) is None  # four, not ten


def naive_duplicate_share(words: list[str], n: int) -> float:
    seen: set[tuple[str, ...]] = set()
    covered: set[int] = set()
    for start in range(len(words) - n + 1):
        gram = tuple(words[start : start + n])
        if gram in seen:
            covered.update(range(start, start + n))
        seen.add(gram)
    return sum(len(words[place]) for place in covered) / sum(map(len, words))


WORDS = st.lists(st.sampled_from(["a", "bb", "ccc", "dddd"]), min_size=3, max_size=60)


@given(WORDS)
def test_duplicates_equal_a_walk_over_tuples(words: list[str]) -> None:
    facts = Facts(" ".join(words), words)
    ends = np.append(0, facts.word_lengths.cumsum())
    for size, hashes in windows(facts.word_hashes, 10):
        grams = [tuple(words[place : place + size]) for place in range(len(words) - size + 1)]
        assert len(set(hashes.tolist())) == len(set(grams))
        share = duplicate_share(hashes, size, ends, -1.0)
        assert share == pytest.approx(naive_duplicate_share(words, size))


@given(WORDS, st.floats(0, 1), st.integers(2, 10))
def test_rules_equal_the_naive_ones(words: list[str], limit: float, n: int) -> None:
    """However much work the bounds save, the verdict is that of counting."""
    if n >= 5:
        share, field = naive_duplicate_share(words, n), f"duplicate_{n}grams"
    else:
        grams = Counter(
            tuple(words[place : place + min(n, 4)]) for place in range(len(words) - min(n, 4) + 1)
        )
        most = max(grams.values(), default=0)
        widths = [len("".join(gram)) for gram, count in grams.items() if count == most]
        share = most * max(widths) / len("".join(words)) if most > 1 else 0.0
        share = min(share, 1.0)
        field = f"top_{n}gram"
    if abs(share - limit) > 1e-9:
        assert (reason(" ".join(words), **{field: limit}) is not None) == (share > limit)


@given(st.lists(st.text(max_size=3)))
def test_copies_equal_a_walk(pieces: list[str]) -> None:
    pieces = [piece for piece in pieces if piece]
    again = [piece for place, piece in enumerate(pieces) if piece in pieces[:place]]
    lines, characters = copies(pieces)
    assert lines == pytest.approx(len(again) / max(len(pieces), 1))
    assert characters == pytest.approx(len("".join(again)) / max(len("".join(pieces)), 1))
