"""The data card: figures from the corpus, one page without outside references, text escaped."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

from data_prep.card import Card, SourceCard, page
from tests.data_prep.conftest import command, write_jsonl


def source(name: str) -> SourceCard:
    return SourceCard(
        name=name, domain="d", read=10, kept=7, dropped={"duplicate": 2}, quarantined={"bad": 1},
        samples={"bad": [{"id": "<i>", "sample": "<script>alert(1)</script> & 中文"}]}, tokens=500,
        bytes_per_token=3.5, unknown_share=0.0, byte_share=0.01, vocabulary_share=0.5,
        length_histogram=[0, 1, 2, 4] + [0] * 20, length_median=12.0, num_samples=8,
        num_segments=7, documents_cut=1, padding_share=0.001,
    )  # fmt: skip


def card() -> Card:
    return Card(
        sequence_length=64, vocab_size=512, tokenizer="xxh3:1", corpus="xxh3:2",
        domains={"d": 1000}, duplicates={"a": {"a": 1, "b": 0}, "b": {"a": 3, "b": 0}},
        vocabulary_seen=0.5, vocabulary_frequent=0.25, token_ranks=[(1, 100), (2, 60), (4, 0)],
        sources=[source("a"), source("b")],
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
    assert not [tag for tag, _ in tags.seen if tag in ("script", "link", "iframe")]
    pictures = [attributes["src"] for tag, attributes in tags.seen if tag == "img"]
    assert len(pictures) == 4
    assert all(str(picture).startswith("data:image/svg+xml;base64,") for picture in pictures)
    assert "&lt;script&gt;alert(1)&lt;/script&gt; &amp; 中文" in made
    assert not re.search(r'(src|href)="(?!data:)', made)


def test_page_is_deterministic() -> None:
    assert page(card()) == page(card())


def test_card_of_a_corpus(corpus_recipe: Path) -> None:
    assert command(corpus_recipe, "launch.workers=1").returncode == 0
    folder = corpus_recipe.parent / "out" / "data"
    found = json.loads((folder / "card.json").read_text())
    manifest = json.loads((folder / "manifest.json").read_text())
    assert found["corpus"] == manifest["fingerprint"]
    first = found["sources"][0]
    assert (first["read"], first["kept"], first["dropped"]) == (307, 300, {"duplicate": 7})
    assert sum(first["length_histogram"]) == 300
    assert set(found["domains"]) == {"one", "two"}
    assert 1.0 < first["bytes_per_token"] < 6.0
    assert first["unknown_share"] == 0.0
    splits = manifest["sources"]["first"]["splits"].values()
    separators = 2 * sum(split["num_segments"] for split in splits)
    assert first["tokens"] == sum(split["num_tokens"] for split in splits) - separators
    assert "Data card" in (folder / "card.html").read_text()


def test_a_source_of_copies_alone(corpus_recipe: Path) -> None:
    folder = corpus_recipe.parent
    write_jsonl(folder / "second.jsonl", [
        json.loads(line)["text"] for line in (folder / "first.jsonl").read_text().splitlines()[:9]
    ])  # fmt: skip
    result = command(corpus_recipe, "launch.workers=1")
    assert result.returncode == 0, result.stderr
    found = json.loads((folder / "out" / "data" / "card.json").read_text())
    assert found["duplicates"]["second"] == {"first": 9, "second": 0}
    assert found["sources"][1]["num_samples"] == 0
