"""Words and their characters: nothing is lost between a text and its words."""

from hypothesis import given
from hypothesis import strategies as st

from finetune.ner import words


def cut(text: str) -> list[str]:
    return [text[start:end] for start, end in words.split(text)]


def test_words_by_eye() -> None:
    assert cut("Ada (b. 1815) met H2-receptor's.") == [
        "Ada", "(", "b", ".", "1815", ")", "met", "H2", "-", "receptor", "'", "s", ".",
    ]  # fmt: skip
    assert cut("我爱北京abc天") == ["我", "爱", "北", "京", "abc", "天"]
    assert cut("नमस्ते दुनिया") == ["नमस्ते", "दुनिया"]  # vowel signs stay with their word
    assert cut(" \n\t ") == []


@given(st.text())
def test_only_white_space_lies_between_words(text: str) -> None:
    position = 0
    for start, end in words.split(text):
        assert start < end
        assert text[position:start].strip() == ""
        assert not any(character.isspace() for character in text[start:end])
        position = end
    assert text[position:].strip() == ""


@given(st.lists(st.text()), st.booleans())
def test_joined_words_lie_where_they_are_said_to(given_words: list[str], spaced: bool) -> None:
    text, offsets = words.join(given_words, spaced)
    assert [text[start:end] for start, end in offsets] == given_words


def test_no_space_between_ideographs() -> None:
    assert words.join(["北", "京", "is", "big"])[0] == "北京 is big"
    assert words.join(["北", "京"], spaced=True)[0] == "北 京"
