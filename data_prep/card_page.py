"""The HTML page of a data card, from `card.html.jinja`; all text from the corpus is escaped."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import jinja2
import numpy as np

from data_prep import pictures
from data_prep.card import FREQUENT, PERCENTILES, Card, Matrix, SourceCard

TEMPLATE = Path(__file__).with_name("card.html.jinja")
KEPT = "kept"
OTHERS = "others"
KINDS = {
    "exact": "Documents whose text is the same",
    "near": "Documents that are nearly the same",
    "lines": "Lines that are repeated",
    "line_characters": "Characters of repeated lines",
}


@dataclass(frozen=True)
class Picture:
    """A chart and what its colours mean."""

    svg: str
    legend: dict[str, str]  # part: colour
    note: str = ""


@dataclass(frozen=True)
class MatrixTable:
    """Copies between sources as a table with shaded cells."""

    title: str
    names: list[str]
    rows: dict[str, list[tuple[int, str]]]  # number and background of each cell


def page(card: Card) -> str:
    """The page as text; the same card gives the same text."""
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"number": "{:,}".format, "share": share}
    template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    return template.render(
        card=card,
        pictures=drawn(card),
        matrices=[matrix(KINDS.get(kind, kind), found) for kind, found in card.duplicates.items()
                  if any(sum(row.values()) for row in found.values())],
        percentiles=list(PERCENTILES),
        languages={source.name: shares_text(source.languages) for source in card.sources},
        frequent=FREQUENT,
    )  # fmt: skip


def drawn(card: Card) -> dict[str, Picture]:
    """The charts that have something to show, by their place on the page."""
    found = {"domains": Picture(pictures.amounts(card.domains, "tokens"), {})}
    lengths = {
        source.name: [source.length_percentiles[name] for name in ("5", "25", "50", "75", "95")]
        for source in card.sources
        if source.length_percentiles
    }
    fits = card.sequence_length - 2
    note = f"Dotted: {fits:,} tokens, the longest document that fits one sample."
    if lengths:
        found["lengths"] = Picture(pictures.lengths(lengths, fits), {}, note)
    fates = {source.name: fates_of(source) for source in card.sources}
    if any(len(fate) > 1 for fate in fates.values()):
        found["fates"] = shares_picture(fates, "% of documents read and augmented", kept=KEPT)
    languages = {source.name: source.languages for source in card.sources if source.languages}
    if languages:
        found["languages"] = shares_picture(languages, "% of documents")
    note = f"Dotted: {FREQUENT} occurrences."
    found["ranks"] = Picture(pictures.ranks(card.token_ranks, FREQUENT), {}, note)
    return found


def fates_of(source: SourceCard) -> dict[str, int]:
    """What became of the documents of a source."""
    return {KEPT: source.kept, **source.dropped, **source.quarantined}


def shares_picture(
    parts: Mapping[str, Mapping[str, int]], label: str, kept: str | None = None
) -> Picture:
    """Stacked bars; the parts that are most in all rows have colours, what is left is one more."""
    totals: Counter[str] = Counter()
    for counts in parts.values():
        totals.update(counts)
    ranked = [name for name, _ in ordered(totals) if name != kept][: len(pictures.COLOURS)]
    colours = {kept: pictures.KEPT} if kept else {}
    colours |= dict(zip(ranked, pictures.COLOURS, strict=False))
    shown = {name: with_others(counts, colours) for name, counts in parts.items()}
    if any(OTHERS in counts for counts in shown.values()):
        colours[OTHERS] = pictures.OTHER
    return Picture(pictures.shares(shown, colours, label), colours)


def ordered(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    """Most first; equal ones by name."""
    return sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))


def with_others(counts: Mapping[str, int], known: Iterable[str]) -> dict[str, int]:
    found = {name: counts[name] for name in known if name in counts}
    rest = sum(counts.values()) - sum(found.values())
    return found | ({OTHERS: rest} if rest else {})


def matrix(title: str, found: Matrix) -> MatrixTable:
    values = np.array([list(row.values()) for row in found.values()], np.int64)
    colours = pictures.shades(values)
    rows = {
        name: list(zip(row.values(), shades, strict=True))
        for (name, row), shades in zip(found.items(), colours, strict=True)
    }
    return MatrixTable(title, list(found), rows)


def shares_text(counts: Mapping[str, int]) -> str:
    """All languages of a source in words: en 93.1%, de 4.0%."""
    total = max(sum(counts.values()), 1)
    return ", ".join(f"{name} {share(count / total, 1)}" for name, count in ordered(counts))


def share(value: float, digits: int = 2) -> str:
    return f"{value:.{digits}%}"
