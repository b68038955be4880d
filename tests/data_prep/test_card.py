"""The data card: figures from the corpus, one page without outside references, text escaped."""

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np

from data_prep import card as cards
from data_prep.card import Card, SourceCard
from data_prep.card_page import page
from tests import browser
from tests.data_prep.conftest import command, write_jsonl

PERCENTILES = {"5": 3, "25": 5, "50": 7, "75": 9, "95": 11, "99": 12, "max": 13}
CONTAMINATED = {
    "wnut17": {"examples": 1287, "examples_found": 31, "examples_left": 0,
               "documents_dropped": 47, "ngram": 13},
}  # fmt: skip


def source(name: str) -> SourceCard:
    return SourceCard(
        name=name, domain="d", read=10, augmented=1, kept=8, dropped={"duplicate": 2},
        quarantined={"bad": 1},
        samples={"bad": [{"id": "<i>", "sample": "<script>alert(1)</script> & 中文"}]},
        languages={"en": 6, "中": 2}, tokens=500, bytes_per_token=3.5, unknown_share=0.0,
        byte_share=0.01, vocabulary_share=0.5, length_histogram=[0, 1, 2, 4] + [0] * 17,
        length_percentiles=PERCENTILES, num_samples=8, num_segments=7, documents_cut=1,
        padding_share=0.001,
    )  # fmt: skip


def card() -> Card:
    none = {"a": {"a": 0, "b": 0}, "b": {"a": 0, "b": 0}}
    return Card(
        sequence_length=64, vocab_size=512, tokenizer="xxh3:1", corpus="xxh3:2",
        repacked_from=None, domains={"d": 1000, "法律": 2},
        duplicates={"exact": {"a": {"a": 1, "b": 0}, "b": {"a": 1234, "b": 0}}, "near": none,
                    "lines": {"a": {"a": 77, "b": 0}, "b": {"a": 0, "b": 0}}},
        decontamination=CONTAMINATED, vocabulary_seen=0.5, vocabulary_frequent=0.25,
        token_ranks=[(1, 100), (2, 60), (4, 0)], sources=[source("a"), source("b")],
    )  # fmt: skip


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))


def test_page_is_self_contained_and_escaped() -> None:
    made = page(card())
    tags = Tags()
    tags.feed(made)
    names = [tag for tag, _ in tags.seen]
    assert not {"script", "link", "iframe", "img", "object"} & set(names)
    assert names.count("svg") == 5
    for tag, attributes in tags.seen:
        for key, value in attributes.items():
            if not key.startswith("xmlns"):
                assert "://" not in str(value), (tag, key, value)
            if key in ("src", "href", "xlink:href"):
                assert str(value).startswith("#"), (tag, key, value)
            assert not key.startswith("on")
    assert not re.search(r"@import|url\((?!#)", made)
    assert "&lt;script&gt;alert(1)&lt;/script&gt; &amp; 中文" in made
    assert "&lt;i&gt;" in made


def test_page_holds_the_figures() -> None:
    made = page(card())
    for figure in (
        "1,234",
        "77",
        "1,287",
        "31",
        "47",
        "法律",
        "wnut17",
        "25.0%",
        "75.0%",
        "0.100%",
    ):
        assert figure in made, figure
    assert "Documents whose text is the same" in made
    assert "Lines that are repeated" in made
    assert "nearly the same" not in made  # a matrix of zeros says nothing
    assert "repacked" not in made


def test_page_says_what_is_missing() -> None:
    plain = replace(source("a"), dropped={}, quarantined={}, samples={}, languages={},
                    length_percentiles={})  # fmt: skip
    made = page(replace(card(), sources=[plain], duplicates={}, decontamination={}))
    assert "Nothing." in made
    assert "None was named" in made
    assert "<h2>Languages" not in made
    assert made.count("<svg") == 2


def test_page_is_deterministic() -> None:
    assert page(card()) == page(card())


def test_figures_of_lengths() -> None:
    counts = np.zeros(9, np.int64)
    counts[[0, 1, 2, 3, 8]] = [1, 1, 4, 3, 1]  # ten documents
    assert cards.histogram(counts)[:4] == [2, 7, 0, 1]
    assert sum(cards.histogram(counts)) == 10
    found = cards.percentiles(counts)
    assert found == {"5": 0, "25": 2, "50": 2, "75": 3, "95": 8, "99": 8, "max": 8}
    assert cards.percentiles(np.zeros(1, np.int64)) == {}


def test_card_of_a_corpus(corpus_recipe: Path) -> None:
    assert command(corpus_recipe, "launch.workers=1").returncode == 0
    folder = corpus_recipe.parent / "out" / "data"
    found = json.loads((folder / "card.json").read_text())
    manifest = json.loads((folder / "manifest.json").read_text())
    assert found["corpus"] == manifest["fingerprint"]
    first = found["sources"][0]
    assert (first["read"], first["kept"], first["dropped"]) == (307, 300, {"duplicate": 7})
    assert sum(first["length_histogram"]) == 300
    assert 5 < first["length_percentiles"]["50"] < first["length_percentiles"]["max"]
    assert set(found["domains"]) == {"one", "two"}
    assert 1.0 < first["bytes_per_token"] < 6.0
    assert first["unknown_share"] == 0.0
    splits = manifest["sources"]["first"]["splits"].values()
    separators = 2 * sum(split["num_segments"] for split in splits)
    assert first["tokens"] == sum(split["num_tokens"] for split in splits) - separators
    assert (folder / "card.html").read_text() == page(cards.load(folder))


def test_a_source_of_copies_alone(corpus_recipe: Path) -> None:
    folder = corpus_recipe.parent
    write_jsonl(folder / "second.jsonl", [
        json.loads(line)["text"] for line in (folder / "first.jsonl").read_text().splitlines()[:9]
    ])  # fmt: skip
    result = command(corpus_recipe, "launch.workers=1")
    assert result.returncode == 0, result.stderr
    found = json.loads((folder / "out" / "data" / "card.json").read_text())
    assert found["duplicates"]["exact"]["second"] == {"first": 9, "second": 0}
    assert found["sources"][1]["num_samples"] == 0
    assert found["sources"][1]["length_percentiles"] == {}


def test_card_of_a_repacked_corpus() -> None:
    split = {"num_samples": 2, "num_segments": 9, "documents_cut": 0, "padding_tokens": 64}
    manifest = {
        "sequence_length": 128, "fingerprint": "xxh3:3",
        "sources": {name: {"splits": {"train": split, "valid": split}} for name in "ab"},
    }  # fmt: skip
    made = cards.repacked(card(), manifest)
    assert (made.corpus, made.repacked_from, made.sequence_length) == ("xxh3:3", "xxh3:2", 128)
    first = made.sources[0]
    assert (first.num_samples, first.num_segments, first.documents_cut) == (4, 18, 0)
    assert first.padding_share == 0.25
    assert (first.kept, first.tokens) == (8, 500)
    assert "repacked from corpus xxh3:2" in page(made)


def test_browser_shows_the_page(tmp_path: Path) -> None:
    """Nothing sticks out on the screen of a phone: what is wide scrolls inside itself."""
    script = (
        "document.title = document.documentElement.scrollWidth + ' ' + "
        "document.querySelectorAll('svg text').length"
    )
    found = re.search(r"<title>(\d+) (\d+)</title>", browser.shown(page(card()), tmp_path, script))
    assert found is not None
    assert int(found[1]) <= 500
    assert int(found[2]) > 30
