"""The data card: what a corpus holds, as card.json and as one HTML page without outside references.

Lengths, domains, languages, what was turned away and why (with samples), copies between sources,
evaluation sets found, how well the tokenizer covers the text, padding. The same corpus gives the
same bytes. The page itself is made by `data_prep/card_page.py`.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_prep import reading, selecting
from data_prep.encoding import encoded
from data_prep.shards import TokenizerFacts
from data_prep.tokenizer import reference
from data_prep.units import Unit
from data_prep.work import Work
from runtime import provenance

CARD = "card.json"
FREQUENT = 100  # occurrences: a token seen as often can be learnt
PERCENTILES = {"5": 0.05, "25": 0.25, "50": 0.5, "75": 0.75, "95": 0.95, "99": 0.99, "max": 1.0}
LONGEST = 1 << 20  # tokens: lengths from here on are counted as this
Matrix = dict[str, dict[str, int]]


@dataclass(frozen=True)
class SourceCard:
    """One source on the card."""

    name: str
    domain: str
    read: int
    augmented: int
    kept: int
    dropped: dict[str, int]
    quarantined: dict[str, int]
    samples: dict[str, list[dict[str, str]]]  # by reason: how what was turned away begins
    languages: dict[str, int]  # documents; empty if it was not looked for
    tokens: int
    bytes_per_token: float
    unknown_share: float  # of tokens
    byte_share: float  # of tokens that spell a single byte of a character not in the vocabulary
    vocabulary_share: float  # of the vocabulary that occurs
    length_histogram: list[int]  # documents with 2^i to 2^(i+1) - 1 tokens; [0] holds length 0 too
    length_percentiles: dict[str, int]  # tokens; empty without documents
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
    repacked_from: str | None  # fingerprint of the corpus whose tokens these are
    domains: dict[str, int]  # tokens
    duplicates: dict[str, Matrix]  # by kind; row: dropped from, column: kept in
    decontamination: dict[str, dict[str, Any]]  # by evaluation set
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
    byte_ids = byte_tokens(tokenizer)
    domains: dict[str, int] = {}
    total = np.zeros(tokenizer.vocab_size, np.int64)
    sources = []
    for name, entry in manifest["sources"].items():
        counts = token_counts(work, name, entry, tokenizer.vocab_size)
        total += counts
        tokens = int(counts.sum())
        domains[entry["domain"]] = domains.get(entry["domain"], 0) + tokens
        lengths = length_counts(work, units[name])
        journals = [work.journal(f"read/{unit.name}") or {} for unit in units[name]]
        source = SourceCard(
            name=name,
            samples=reading.merged(journals)["samples"],
            tokens=tokens,
            bytes_per_token=rounded((counts * spelt).sum() / max(tokens, 1)),
            unknown_share=rounded(int(counts[tokenizer.unk_id]) / max(tokens, 1)),
            byte_share=rounded(int(counts[byte_ids].sum()) / max(tokens, 1)),
            vocabulary_share=rounded(float((counts > 0).mean())),
            length_histogram=histogram(lengths),
            length_percentiles=percentiles(lengths),
            **told(entry, manifest["sequence_length"]),
        )
        sources.append(source)
    ordered = np.sort(total)[::-1]
    ranks = [1 << power for power in range(len(ordered).bit_length())]
    return Card(
        sequence_length=manifest["sequence_length"],
        vocab_size=tokenizer.vocab_size,
        tokenizer=tokenizer.fingerprint,
        corpus=manifest["fingerprint"],
        repacked_from=None,
        domains=domains,
        duplicates=manifest["duplicates"],
        decontamination=manifest["decontamination"],
        vocabulary_seen=rounded((total > 0).mean()),
        vocabulary_frequent=rounded((total >= FREQUENT).mean()),
        token_ranks=[(rank, int(ordered[rank - 1])) for rank in ranks if rank <= len(ordered)],
        sources=sources,
    )


def told(entry: Mapping[str, Any], sequence_length: int) -> dict[str, Any]:
    """What the manifest says of a source, as fields of its card."""
    documents = entry["documents"]
    fields = ("read", "augmented", "kept", "dropped", "quarantined")
    return {
        "domain": entry["domain"],
        "languages": entry["languages"],
        **{field: documents[field] for field in fields},
        **packed(entry, sequence_length),
    }


def packed(entry: Mapping[str, Any], sequence_length: int) -> dict[str, Any]:
    """How the documents of a source lie in samples, both splits together."""
    splits = entry["splits"].values()
    found = {
        field: sum(split[field] for split in splits)
        for field in ("num_samples", "num_segments", "documents_cut")
    }
    padding = sum(split["padding_tokens"] for split in splits)
    share = padding / max(found["num_samples"] * sequence_length, 1)
    return found | {"padding_share": rounded(share)}


def repacked(card: Card, manifest: Mapping[str, Any]) -> Card:
    """The card of the same documents in other samples."""
    length = manifest["sequence_length"]
    return replace(
        card,
        sequence_length=length,
        corpus=manifest["fingerprint"],
        repacked_from=card.corpus,
        sources=[
            replace(source, **packed(manifest["sources"][source.name], length))
            for source in card.sources
        ],
    )


def token_counts(
    work: Work, source: str, entry: Mapping[str, Any], vocab_size: int
) -> NDArray[np.int64]:
    """(V,) how often each token occurs in the shards of a source."""
    counts = np.zeros(vocab_size, np.int64)
    for split in entry["splits"].values():
        for shard in split["shards"]:
            counts += np.load(work.path(f"shard/{source}/{shard['name']}", ".counts.npy"))
    return counts


def length_counts(work: Work, units: Iterable[Unit]) -> NDArray[np.int64]:
    """How many documents of a source have 0, 1, 2... tokens."""
    counts = np.zeros(1, np.int64)
    for unit in units:
        lengths = encoded(work, unit.name, "lengths")[selecting.selected(work, unit.name)]
        more = np.bincount(np.minimum(lengths, LONGEST), minlength=len(counts))
        more[: len(counts)] += counts
        counts = more
    return counts


def histogram(counts: NDArray[np.int64]) -> list[int]:
    """Documents with 2^i to 2^(i+1) - 1 tokens."""
    sums = np.concatenate([[0], np.cumsum(counts)])
    edges = np.minimum([0, *(1 << power for power in range(1, 22))], len(counts))
    return [int(count) for count in np.diff(sums[edges])]


def percentiles(counts: NDArray[np.int64]) -> dict[str, int]:
    """The least length that each share of the documents does not exceed."""
    sums = np.cumsum(counts)
    if not sums[-1]:
        return {}
    places = np.searchsorted(sums, [max(share * sums[-1], 1) for share in PERCENTILES.values()])
    return {name: int(place) for name, place in zip(PERCENTILES, places, strict=True)}


def byte_tokens(tokenizer: TokenizerFacts) -> list[int]:
    """Ids of <0x00> to <0xFF>, by which SentencePiece spells what is not in its vocabulary."""
    vocabulary = reference(tokenizer.folder)
    found = (vocabulary.token_to_id(f"<0x{byte:02X}>") for byte in range(256))
    return [number for number in found if number is not None]


def rounded(share: float) -> float:
    return round(float(share), 6)


def load(folder: Path) -> Card:
    """The card of a finished corpus. Raises DataError."""
    found = provenance.read_json(folder / CARD)
    found["sources"] = [SourceCard(**source) for source in found["sources"]]
    found["token_ranks"] = [(rank, count) for rank, count in found["token_ranks"]]
    return Card(**found)


def write(folder: Path, card: Card) -> None:
    """Write card.json and card.html."""
    from data_prep import card_page  # matplotlib: a third of a second that only this pays for

    provenance.write_json(folder / CARD, asdict(card))
    provenance.write_text(folder / "card.html", card_page.page(card))
