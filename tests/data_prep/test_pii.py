"""Personal data, by made-up examples: published test numbers and documentation addresses."""

import time
from typing import Any

import pytest

from data_prep.clean.pii import Params, clean
from data_prep.documents import Document


def cleaned(text: str, **settings: Any) -> Document:
    result = clean(Document("id", text, "s", "d"), Params.model_validate(settings))
    assert isinstance(result, Document)
    return result


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Write to jo.doe+x@mail.example.org.", "Write to <email>."),
        ("<a@b.io>,c@d.eu", "<<email>>,<email>"),
        ("server 8.8.8.8, port", "server <ip>, port"),
        ("at 2606:4700:4700::1111 now", "at <ip> now"),
        ("card 4111 1111 1111 1111!", "card <card>!"),
        ("5500-0000-0000-0004", "<card>"),
        ("IBAN DE89 3704 0044 0532 0130 00 OR ELSE", "IBAN <iban> OR ELSE"),
        ("GB82WEST12345698765432", "<iban>"),
        ("call +44 20 7946 0958 today", "call <phone> today"),
        ("call (212) 555-0123 or 212-555-0123", "call <phone> or <phone>"),
        ("Tel. 030 1234567", "Tel. <phone>"),
        ("手机13812345678。", "手机<phone>。"),
    ],
)
def test_redacted(text: str, expected: str) -> None:
    result = cleaned(text)
    assert result.text == expected
    again = clean(result, Params())
    assert again is result  # placeholders are no personal data


@pytest.mark.parametrize(
    "text",
    [
        "an @ sign, user@localhost, @name",
        "10.0.0.1 127.0.0.1 192.168.1.1 1.2.3 300.1.1.1 1.2.3.4.5",
        "std::vector a::b ::1 fe80::1 12:30:45",
        "4111 1111 1111 1112",  # wrong check digit
        "DE88370400440532013000",  # wrong checksum
        "in 1999-2003, pages 120-135, 3.14159265358979",
        "2026-11-22 10:30:00",
        "",
    ],
)
def test_stays(text: str) -> None:
    assert cleaned(text).text == text


def test_counts_and_switches() -> None:
    text = "a@b.io c@d.io 8.8.8.8"
    result = cleaned(text)
    assert result.metadata == {"redacted": "3"}
    before = Document("id", text, "s", "d", {"redacted": "2", "key": "1"})
    both = clean(before, Params())
    assert isinstance(both, Document)
    assert both.metadata == {"redacted": "5", "key": "1"}
    assert before.metadata["redacted"] == "2"
    assert cleaned(text, emails=False).text == "a@b.io c@d.io <ip>"
    assert (
        cleaned(text, ip_addresses=False, email_placeholder="x@y.zz").text
        == "x@y.zz x@y.zz 8.8.8.8"
    )
    assert cleaned("x@y.zz", email_placeholder="x@y.zz").metadata == {}


@pytest.mark.parametrize(
    "unit", ["a", "1", "1 ", "a.", "1.", ":1", "A", "A1 ", "-", "@", "a@", "+1"]
)
def test_long_runs_take_linear_time(unit: str) -> None:
    started = time.process_time()
    cleaned(unit * 100_000)
    assert time.process_time() - started < 5
