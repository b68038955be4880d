"""Single-spaced texts, against str.split."""

import random
import sys

from data_prep.spacing import single_spaced

SPACES = [chr(code) for code in range(sys.maxunicode + 1) if chr(code).isspace()]


def plain(text: str) -> bytes:
    return " ".join(text.split()).encode()


def test_examples() -> None:
    assert single_spaced([" a  b\n", "", "\u3000数\u2003据 \t", "x"]) == [
        b"a b",
        b"",
        "数 据".encode(),
        b"x",
    ]
    assert single_spaced([]) == []
    assert single_spaced(["a\x00 b", "c"]) == [b"a\x00 b", b"c"]  # alone; never read from a corpus


def test_all_white_space_of_python_and_nothing_else() -> None:
    looks_alike = ["\u200b", "\u2060", "\ufeff", "\u180e", "\x1b", "\xc2", "\u30a0", "\U00020000"]
    alphabet = [*SPACES, *looks_alike, *"ab c\n", "é", "数"]
    rng = random.Random(0)
    texts = ["".join(rng.choices(alphabet, k=rng.randrange(40))) for _ in range(3_000)]
    assert single_spaced(texts) == [plain(text) for text in texts]
    ascii_texts = [text for text in texts if text.isascii()]
    assert single_spaced(ascii_texts) == [plain(text) for text in ascii_texts]


def test_folding_case_leaves_white_space_alone() -> None:
    codes = [code for code in range(sys.maxunicode + 1) if not 0xD800 <= code < 0xE000]
    assert all(chr(code).casefold().split() == [chr(code).casefold()] or chr(code).isspace()
               for code in codes)  # fmt: skip
    assert all(space.casefold() == space for space in SPACES)
