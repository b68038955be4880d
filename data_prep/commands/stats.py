"""`stats FOLDER|RECIPE [--json]`: what a corpus holds, from its manifest and its card."""

import json
from argparse import ArgumentParser, Namespace
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from data_prep.commands import corpus
from data_prep.shards import Corpus
from runtime import provenance

SHOWN_LANGUAGES = 8  # of a source; the others are added up
SOURCE_COLUMNS = (
    "read", "augmented", "quarantined", "dropped", "kept", "tokens", "samples", "cut", "padding"
)  # fmt: skip
Row = tuple[str, ...]


def add_arguments(parser: ArgumentParser) -> None:
    corpus.add_arguments(parser)
    parser.add_argument("--json", action="store_true", help="the same figures as JSON")


def run(found: Namespace) -> None:
    folder = corpus.folder_of(found)
    facts = facts_of(folder, Corpus(folder).manifest)
    if found.json:
        print(json.dumps(facts, indent=2, ensure_ascii=False))
    else:
        show(facts)


def facts_of(folder: Path, manifest: dict[str, Any]) -> dict[str, Any]:
    """All figures, as `--json` prints them."""
    length = manifest["sequence_length"]
    card = folder / "card.json"
    drawn = provenance.read_json(card)["sources"] if card.is_file() else []
    lengths = {source["name"]: source["length_percentiles"] for source in drawn}
    sources = {
        name: source_facts(entry, length) | {"lengths": lengths.get(name, {})}
        for name, entry in manifest["sources"].items()
    }
    return {
        "corpus": manifest["fingerprint"],
        "sequence_length": length,
        "vocab_size": manifest["tokenizer"]["vocab_size"],
        "sources": sources,
        "domains": domain_facts(sources),
        "duplicates": manifest["duplicates"],
        "decontamination": manifest.get("decontamination", {}),
    }


def source_facts(entry: dict[str, Any], length: int) -> dict[str, Any]:
    """One source, both splits together."""
    documents, splits = entry["documents"], entry["splits"].values()
    samples = sum(split["num_samples"] for split in splits)
    padding = sum(split["padding_tokens"] for split in splits)
    return {
        "domain": entry["domain"],
        "read": documents["read"],
        "augmented": documents.get("augmented", 0),
        "quarantined": documents["quarantined"],
        "dropped": documents["dropped"],
        "kept": documents["kept"],
        "tokens": sum(split["num_tokens"] for split in splits),
        "samples": samples,
        "documents_cut": sum(split["documents_cut"] for split in splits),
        "padding_tokens": padding,
        "padding_share": padding / (samples * length) if samples else 0.0,
        "languages": entry.get("languages", {}),
    }


def domain_facts(sources: dict[str, Any]) -> dict[str, Any]:
    """Documents and tokens of each domain."""
    documents: Counter[str] = Counter()
    tokens: Counter[str] = Counter()
    for source in sources.values():
        documents[source["domain"]] += source["kept"]
        tokens[source["domain"]] += source["tokens"]
    return {
        domain: {
            "kept": documents[domain],
            "tokens": tokens[domain],
            "token_share": tokens[domain] / max(tokens.total(), 1),
        }
        for domain in tokens
    }


def show(facts: dict[str, Any]) -> None:
    """Print all tables that have something to say."""
    sources = facts["sources"]
    corpus.print_table("sources", ("source", "domain"), SOURCE_COLUMNS, source_rows(sources))
    corpus.print_table(
        "domains",
        ("domain",),
        ("documents", "tokens", "share of tokens"),
        (
            (name, f"{entry['kept']:,}", f"{entry['tokens']:,}", f"{entry['token_share']:.1%}")
            for name, entry in facts["domains"].items()
        ),
    )
    corpus.print_table(
        "turned away", ("source", "kind", "reason"), ("documents", "of read"), drop_rows(sources)
    )
    corpus.print_table(
        "copies", ("kind", "dropped from", "kept in"), ("found",), copy_rows(facts["duplicates"])
    )
    corpus.print_table(
        "tokens of a document", ("source",), percentile_names(sources), length_rows(sources)
    )
    corpus.print_table("languages", ("source", "share of documents"), (), language_rows(sources))
    corpus.print_table(
        "evaluation sets",
        ("set",),
        ("examples", "found in the corpus", "documents dropped"),
        (
            (name, *(f"{entry[key]:,}" for key in
                     ("examples", "examples_found", "documents_dropped")))
            for name, entry in facts["decontamination"].items()
        ),
    )  # fmt: skip


def source_rows(sources: dict[str, Any]) -> Iterator[Row]:
    for name, source in sources.items():
        figures = (
            source["read"], source["augmented"], sum(source["quarantined"].values()),
            sum(source["dropped"].values()), source["kept"], source["tokens"], source["samples"],
            source["documents_cut"],
        )  # fmt: skip
        padding = f"{source['padding_share']:.3%}" if source["samples"] else "-"
        yield (name, source["domain"], *(f"{figure:,}" for figure in figures), padding)


def drop_rows(sources: dict[str, Any]) -> Iterator[Row]:
    for name, source in sources.items():
        came = max(source["read"] + source["augmented"], 1)
        for kind in ("quarantined", "dropped"):
            for reason, count in source[kind].items():
                yield name, kind, reason, f"{count:,}", f"{count / came:.2%}"


def copy_rows(duplicates: dict[str, Any]) -> Iterator[Row]:
    for kind, matrix in duplicates.items():
        for row, counts in matrix.items():
            for column, count in counts.items():
                if count:
                    yield kind, row, column, f"{count:,}"


def percentile_names(sources: dict[str, Any]) -> list[str]:
    return next((list(source["lengths"]) for source in sources.values() if source["lengths"]), [])


def length_rows(sources: dict[str, Any]) -> Iterator[Row]:
    for name, source in sources.items():
        if source["lengths"]:
            yield (name, *(f"{value:,.0f}" for value in source["lengths"].values()))


def language_rows(sources: dict[str, Any]) -> Iterator[Row]:
    for name, source in sources.items():
        counts = Counter(source["languages"])
        if counts:
            most = counts.most_common(SHOWN_LANGUAGES)
            shown = [f"{language} {count / counts.total():.1%}" for language, count in most]
            rest = counts.total() - sum(count for _, count in most)
            others = [f"others {rest / counts.total():.1%}"] if rest else []
            yield name, ", ".join(shown + others)
