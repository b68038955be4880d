"""The data card: what a corpus holds, as card.json and as one HTML page without outside references.

Lengths, domains, what was turned away and why (with samples), copies between sources, how well the
tokenizer covers the text, padding. The same corpus gives the same bytes.
"""

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import jinja2
import matplotlib
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from data_prep import encoding, reading, selecting
from data_prep.card_page import PAGE
from data_prep.shards import TokenizerFacts
from data_prep.tokenizer import BYTE_TOKEN, load_json
from data_prep.units import Unit
from data_prep.work import Work
from runtime import provenance

LENGTH_EDGES = [2**power for power in range(25)]  # tokens: bins of the length histogram
FREQUENT = 100  # occurrences: a token seen as often can be learnt


@dataclass(frozen=True)
class SourceCard:
    """One source on the card."""

    name: str
    domain: str
    read: int
    kept: int
    dropped: dict[str, int]
    quarantined: dict[str, int]
    samples: dict[str, list[dict[str, str]]]  # by reason: how what was turned away begins
    tokens: int
    bytes_per_token: float
    unknown_share: float  # of tokens
    byte_share: float  # of tokens that spell a single byte of a character not in the vocabulary
    vocabulary_share: float  # of the vocabulary that occurs
    length_histogram: list[int]  # documents with 2^i to 2^(i+1) - 1 tokens
    length_median: float
    num_samples: int
    num_segments: int
    documents_cut: int
    padding_share: float


@dataclass(frozen=True)
class Card:
    """The card of a corpus."""

    sequence_length: int
    vocab_size: int
    tokenizer: str  # fingerprint
    corpus: str  # fingerprint
    domains: dict[str, int]  # tokens
    duplicates: dict[str, dict[str, int]]  # row: dropped from, column: kept in
    vocabulary_seen: float  # share of the vocabulary
    vocabulary_frequent: float  # share of it that occurs at least FREQUENT times
    token_ranks: list[tuple[int, int]]  # (rank, occurrences), at powers of two
    sources: list[SourceCard]


def gather(
    work: Work,
    units: Mapping[str, Sequence[Unit]],
    manifest: Mapping[str, Any],
    tokenizer: TokenizerFacts,
) -> Card:
    """Collect the card's figures from the journals and the manifest."""
    spelt = tokenizer.token_bytes()
    is_byte = byte_tokens(tokenizer, spelt)
    domains: dict[str, int] = {}
    total = np.zeros(tokenizer.vocab_size, np.int64)
    sources = []
    for name, entry in manifest["sources"].items():
        counts = np.zeros(tokenizer.vocab_size, np.int64)
        for facts in entry["splits"].values():
            for shard in facts["shards"]:
                counts += np.load(work.path(f"shard/{name}/{shard['name']}", ".counts.npy"))
        total += counts
        domains[entry["domain"]] = domains.get(entry["domain"], 0) + int(counts.sum())
        sources.append(
            source_card(work, name, units[name], manifest, counts, spelt, is_byte, tokenizer)
        )
    ordered = np.sort(total)[::-1]
    ranks = [1 << power for power in range(len(ordered).bit_length())]
    return Card(
        sequence_length=manifest["sequence_length"],
        vocab_size=tokenizer.vocab_size,
        tokenizer=tokenizer.fingerprint,
        corpus=manifest["fingerprint"],
        domains=domains,
        duplicates=manifest["duplicates"]["exact"],
        vocabulary_seen=float((total > 0).mean()),
        vocabulary_frequent=float((total >= FREQUENT).mean()),
        token_ranks=[(rank, int(ordered[rank - 1])) for rank in ranks if rank <= len(ordered)],
        sources=sources,
    )


def byte_tokens(tokenizer: TokenizerFacts, spelt: NDArray[np.int32]) -> NDArray[np.bool_]:
    """Tokens <0x00> to <0xFF>, by which SentencePiece spells what is not in its vocabulary."""
    found = np.zeros(len(spelt), bool)
    vocabulary = load_json(tokenizer.folder / "tokenizer.json").get_vocab()
    for token, number in vocabulary.items():
        found[number] = BYTE_TOKEN.fullmatch(token) is not None
    return found


def source_card(
    work: Work,
    name: str,
    units: Sequence[Unit],
    manifest: Mapping[str, Any],
    counts: NDArray[np.int64],
    spelt: NDArray[np.int32],
    is_byte: NDArray[np.bool_],
    tokenizer: TokenizerFacts,
) -> SourceCard:
    """The figures of one source."""
    entry = manifest["sources"][name]
    documents, splits = entry["documents"], entry["splits"].values()
    journals = [work.journal(f"read/{unit.name}") or {} for unit in units]
    lengths = [
        encoding.encoded(work, unit.name, "lengths")[selecting.selected(work, unit.name)]
        for unit in units
    ]
    joined = np.concatenate(lengths) if lengths else np.zeros(0, np.int64)
    tokens = int(counts.sum())
    num_samples = sum(split["num_samples"] for split in splits)
    padding = sum(split["padding_tokens"] for split in splits)
    return SourceCard(
        name=name,
        domain=entry["domain"],
        read=documents["read"],
        kept=documents["kept"],
        dropped=documents["dropped"],
        quarantined=documents["quarantined"],
        samples=reading.merged(journals)["samples"],
        tokens=tokens,
        bytes_per_token=rounded((counts * spelt).sum() / max(tokens, 1)),
        unknown_share=rounded(int(counts[tokenizer.unk_id]) / max(tokens, 1)),
        byte_share=rounded(int(counts[is_byte].sum()) / max(tokens, 1)),
        vocabulary_share=rounded(float((counts > 0).mean())),
        length_histogram=np.histogram(joined, LENGTH_EDGES)[0].tolist(),
        length_median=float(np.median(joined)) if len(joined) else 0.0,
        num_samples=num_samples,
        num_segments=sum(split["num_segments"] for split in splits),
        documents_cut=sum(split["documents_cut"] for split in splits),
        padding_share=rounded(padding / max(num_samples * manifest["sequence_length"], 1)),
    )


def rounded(share: float) -> float:
    return round(float(share), 6)


def write(folder: Path, card: Card) -> None:
    """Write card.json and card.html."""
    provenance.write_json(folder / "card.json", asdict(card))
    provenance.write_text(folder / "card.html", page(card))


def page(card: Card) -> str:
    """The HTML page; all text from the corpus is escaped."""
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    pictures = {
        "Document lengths": lengths_picture(card),
        "Tokens per domain": domains_picture(card),
        "Token frequencies": ranks_picture(card),
    }
    if sum(sum(row.values()) for row in card.duplicates.values()):
        pictures["Copies between sources"] = duplicates_picture(card)
    return environment.from_string(PAGE).render(card=card, pictures=pictures)


def lengths_picture(card: Card) -> str:
    figure = Figure(figsize=(7, 3.2), layout="constrained")
    axes = figure.add_subplot()
    for source in card.sources:
        total = max(sum(source.length_histogram), 1)
        shares = [100 * count / total for count in source.length_histogram]
        axes.plot(LENGTH_EDGES[:-1], shares, drawstyle="steps-post", label=source.name)
    axes.axvline(card.sequence_length - 2, color="grey", linestyle=":", label="fits one sample")
    axes.set_xscale("log", base=2)
    axes.set_xlabel("tokens in the document")
    axes.set_ylabel("% of documents")
    axes.legend(fontsize="small")
    return encoded(figure)


def domains_picture(card: Card) -> str:
    figure = Figure(figsize=(7, 0.9 + 0.35 * len(card.domains)), layout="constrained")
    axes = figure.add_subplot()
    names = list(card.domains)[::-1]
    bars = axes.barh(names, [card.domains[name] for name in names], color="#4c78a8")
    axes.bar_label(bars, [f"{card.domains[name]:,}" for name in names], padding=3, fontsize=8)
    axes.margins(x=0.15)
    axes.set_xlabel("tokens")
    return encoded(figure)


def ranks_picture(card: Card) -> str:
    figure = Figure(figsize=(7, 3.2), layout="constrained")
    axes = figure.add_subplot()
    shown = [(rank, count) for rank, count in card.token_ranks if count]
    axes.loglog([rank for rank, _ in shown], [count for _, count in shown], marker="o")
    axes.axhline(FREQUENT, color="grey", linestyle=":", label=f"{FREQUENT} occurrences")
    axes.set_xlabel("rank of the token")
    axes.set_ylabel("occurrences")
    axes.legend(fontsize="small")
    return encoded(figure)


def duplicates_picture(card: Card) -> str:
    names = list(card.duplicates)
    matrix = np.array([[card.duplicates[row][column] for column in names] for row in names])
    size = 2.2 + 0.45 * len(names)
    figure = Figure(figsize=(size + 1, size), layout="constrained")
    axes = figure.add_subplot()
    axes.imshow(np.log1p(matrix), cmap="Blues")
    axes.set_xticks(range(len(names)), names, rotation=45, ha="right")
    axes.set_yticks(range(len(names)), names)
    axes.set_xlabel("kept in")
    axes.set_ylabel("dropped from")
    middle = np.log1p(matrix).max() / 2
    for row, column in np.argwhere(matrix):
        value = matrix[row, column]
        color = "white" if np.log1p(value) > middle else "black"
        axes.text(column, row, f"{value:,}", ha="center", va="center", color=color, fontsize=8)
    return encoded(figure)


def encoded(figure: Figure) -> str:
    """A picture as a data URL; the same figure gives the same bytes."""
    buffer = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "textmill", "svg.fonttype": "path"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return "data:image/svg+xml;base64," + base64.b64encode(buffer.getvalue()).decode()
