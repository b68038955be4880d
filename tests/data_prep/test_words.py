"""Words: by white space, and by character where a script has none."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep.words import UNSPACED, words_of


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", []),
        (" \n\t", []),
        ("Two words, here.", ["Two", "words,", "here."]),
        ("naïve café — “quoted”", ["naïve", "café", "—", "“quoted”"]),
        ("中文文本，没有", ["中", "文", "文", "本", "，", "没", "有"]),
        ("使用apt安装2个包", ["使", "用", "apt", "安", "装", "2", "个", "包"]),
        ("ひらカナ漢", ["ひ", "ら", "カ", "ナ", "漢"]),
        ("한국어 문장", ["한국어", "문장"]),  # Hangul has spaces
        ("ไทย", ["ไ", "ท", "ย"]),
        ("wide\u3000space", ["wide", "space"]),
        ("😀 a😀", ["😀", "a😀"]),
        ("😀中\U00020000x", ["😀", "中", "\U00020000", "x"]),
    ],
)
def test_examples(text: str, words: list[str]) -> None:
    assert words_of(text) == words


def alone(character: str) -> bool:
    return any(first <= ord(character) < end for first, end in UNSPACED)


SPOTS = st.sampled_from([chr(code) for ends in UNSPACED for code in (ends[0], ends[1] - 1, *ends)])


@given(st.text(st.characters() | SPOTS | st.sampled_from(" \n一ก‘a")))
def test_equals_a_walk_over_the_characters(text: str) -> None:
    spaced = "".join(f" {character} " if alone(character) else character for character in text)
    assert words_of(text) == spaced.split()


@given(st.text())
def test_loses_nothing_but_white_space(text: str) -> None:
    assert "".join(words_of(text)) == "".join(text.split())
