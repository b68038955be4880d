"""Unicode clean-up, by examples."""

from typing import Any

import pytest

from data_prep.clean.unicode import Params, clean
from data_prep.documents import Document, Reject


def cleaned(text: str, **settings: Any) -> str:
    result = clean(Document("id", text, "s", "d"), Params.model_validate(settings))
    assert isinstance(result, Document)
    return result.text


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("a\r\nb\rc\u2028d", "a\nb\nc\nd"),
        ("page\x0cbreak", "page\nbreak"),
        ("bell\x07 and escape\x1b[0m", "bell and escape[0m"),
        ("zero\u200bwidth \ufeffmark soft\u00adhyphen", "zerowidth mark softhyphen"),
        ("cafe\u0301", "café"),
        ("ﬁ", "ﬁ"),
        ("trailing  \nspace\t", "trailing\nspace"),
        ("  indent\n\tstays", "  indent\n\tstays"),
        ("a\n\n\n\n\n\nb", "a\n\n\nb"),
        ("می‌خواهم", "می‌خواهم"),  # a zero-width non-joiner belongs to the spelling
        ("👩‍🚀", "👩‍🚀"),  # and a joiner to the emoji
    ],
)
def test_clean(before: str, after: str) -> None:
    assert cleaned(before) == after


def test_options() -> None:
    assert cleaned("ﬁ", form="NFKC") == "fi"
    assert cleaned("cafe\u0301", form="none") == "cafe\u0301"
    assert cleaned("cafÃ©", repair=True) == "café"
    assert cleaned("cafÃ©") == "cafÃ©"
    assert cleaned("a\u200bb", remove_invisible=False) == "a\u200bb"


@pytest.mark.parametrize("text", ["", "   ", "\n\n", "\u200b", "\x00"])
def test_nothing_left(text: str) -> None:
    result = clean(Document("id", text, "s", "d"), Params())
    assert isinstance(result, Reject)
    assert result.reason == "shorter than 1 characters"


def test_min_characters() -> None:
    result = clean(Document("id", "short", "s", "d"), Params(min_characters=6))
    assert isinstance(result, Reject)
    assert (result.reason, result.sample) == ("shorter than 6 characters", "short")
    assert cleaned("longer", min_characters=6) == "longer"
