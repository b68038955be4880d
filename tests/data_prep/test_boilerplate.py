"""Boilerplate lines, by examples of what goes and what stays."""

from typing import Any

import pytest

from data_prep.clean.boilerplate import RULES, Params, clean
from data_prep.documents import Document, Reject

GONE = [
    ("cookies", "This website uses cookies to improve your experience."),
    ("cookies", "Cookie settings"),
    ("cookies", "本网站使用cookie来改善您的体验。"),
    ("javascript", "Please enable JavaScript to view the comments."),
    ("javascript", "JavaScript is disabled in your browser!"),
    ("copyright", "© 2024 Example Inc. All rights reserved."),
    ("copyright", "Copyright (c) 1999-2003 The Authors"),
    ("copyright", "版权所有 © 某某公司"),
    ("read_more", "Read more »"),
    ("read_more", "→ Continue reading"),
    ("read_more", "阅读全文>>"),
    ("share", "Share on Facebook"),
    ("share", "Follow us on Twitter and Instagram"),
    ("share", "分享到微信"),
    ("page_links", "Skip to main content"),
    ("page_links", "[Back to top]"),
    ("page_links", "上一篇：安装说明"),
    ("navigation", "Home | About us | Contact"),
    ("navigation", "Home » Products » Blue widgets » FAQ"),
    ("navigation", "首页 > 新闻 > 详情"),
]
STAYS = [
    "Read more books about it!",
    "Bake the cookies for ten minutes.",
    "JavaScript has first-class functions.",
    "The copyright of 1710 was the first law of its kind.",
    "He shared the bread on the table.",
    "| Home | 3 | 4 |",
    "either/or/both",
    "Go to the next page.",
    "We use cookies " + "and so on " * 20,  # too long to be a notice
]


def cleaned(text: str, **settings: Any) -> str:
    result = clean(Document("id", text, "s", "d"), Params.model_validate(settings))
    return result.reason if isinstance(result, Reject) else result.text


@pytest.mark.parametrize(("rule", "line"), GONE)
def test_gone(rule: str, line: str) -> None:
    assert cleaned(f"Text.\n  {line}\nMore of it.") == "Text.\nMore of it."
    others_off = dict.fromkeys({*RULES, "navigation"} - {rule}, False)
    assert cleaned(f"Text.\n{line}", **others_off) == "Text."
    if rule != "copyright":  # "All rights reserved" and a copyright sign are two reasons
        assert cleaned(f"Text.\n{line}", **{rule: False}) == f"Text.\n{line}"


@pytest.mark.parametrize("line", STAYS)
def test_stays(line: str) -> None:
    assert cleaned(f"Text.\n{line}\n\n\nText.") == f"Text.\n{line}\n\n\nText."


def test_paragraphs_stay_apart_and_nothing_left_is_a_reject() -> None:
    assert cleaned("One.\n\nRead more\n\nTwo.") == "One.\n\nTwo."
    assert cleaned("Read more\n\nTweet") == "boilerplate: no line is left"
    assert cleaned("--- ***\n!!") == "--- ***\n!!"
    off = dict.fromkeys({*RULES, "navigation"}, False)
    assert cleaned("Read more", **off) == "Read more"
