"""Words of a text: what rules count, shingles are made of and n-grams are compared by.

White space separates words; where a script does not use it, every character is a word of its own.
"""

import re

# Han with its extensions, kana, and what stands between them in Chinese and Japanese text.
UNSPACED = re.compile(
    r"[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"
)


def words_of(text: str) -> list[str]:
    """The words of a text, in order, punctuation included."""
    if not text.isascii() and UNSPACED.search(text):
        text = UNSPACED.sub(r" \g<0> ", text)
    return text.split()
