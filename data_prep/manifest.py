"""The manifest of a corpus: what came in, what became of it, and what the shards are.

Per source: documents read + augmented = kept + dropped by reason + quarantined by reason; per split
samples, tokens, segments, documents, documents cut, padding, and the shards with their block hashes
and the units their documents came from.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from data_prep import decontamination, sharding
from data_prep.config import Recipe
from data_prep.plan import config_of
from data_prep.shards import (
    FORMAT,
    TokenizerFacts,
    manifest_fingerprint,
    split_of,
    tokenizer_files,
)
from runtime import provenance
from runtime.errors import DataError
from runtime.stages import Plan

Journals = dict[str, list[dict[str, Any]]]
Matrix = list[list[int]]  # source x source


@dataclass(frozen=True)
class Passes:
    """What the passes reported, per source."""

    read: dict[str, Any]
    merge: dict[str, Any]
    encode: Journals
    select: dict[str, dict[str, int]]
    shard: Journals  # by source/split


def manifest_of(
    recipe: Recipe, plan: Plan, tokenizer: TokenizerFacts, passes: Passes
) -> dict[str, Any]:
    """Put the journals together. Raises DataError if nothing is left to train on."""
    config = config_of(recipe)
    sources = {
        name: source_of(recipe, name, number, passes) for number, name in enumerate(recipe.sources)
    }
    if not any(entry["splits"]["train"]["num_samples"] for entry in sources.values()):
        raise DataError(
            "no document is left for training; see the reasons: "
            + "; ".join(f"{name}: {entry['documents']}" for name, entry in sources.items())
        )
    manifest = {
        "format": FORMAT,
        "inputs": plan.inputs,
        "sequence_length": recipe.packing.sequence_length,
        "tokenizer": {
            "fingerprint": tokenizer.fingerprint,
            "vocab_size": tokenizer.vocab_size,
            "pad_id": tokenizer.pad_id,
            "cls_id": tokenizer.cls_id,
            "sep_id": tokenizer.sep_id,
            "mask_id": tokenizer.mask_id,
            "unk_id": tokenizer.unk_id,
            "special_ids": list(tokenizer.special_ids),
            "files": tokenizer_files(tokenizer.folder),
        },
        "config": config,
        "config_fingerprint": provenance.fingerprint(config),
        "duplicates": {
            kind: named(passes.merge[kind], list(recipe.sources))
            for kind in ("exact", "near", "lines", "line_characters")
        },
        "decontamination": contamination(passes.read),
        "sources": sources,
    }
    return manifest | {"fingerprint": manifest_fingerprint(manifest)}


def named(matrix: Matrix, sources: list[str]) -> dict[str, dict[str, int]]:
    """A matrix by the names of its rows and columns."""
    return {
        name: dict(zip(sources, row, strict=True))
        for name, row in zip(sources, matrix, strict=True)
    }


def contamination(read: Mapping[str, Any]) -> dict[str, Any]:
    """What of the named evaluation sets was found in any source."""
    journals = [found for total in read.values() for found in total["contamination"]]
    return decontamination.facts(journals)


def source_of(recipe: Recipe, name: str, number: int, passes: Passes) -> dict[str, Any]:
    """The entry of a source."""
    params, read = recipe.sources[name], passes.read[name]
    return {
        "domain": params.domain,
        "reader": params.reader,
        "documents": documents_of(recipe, name, number, passes),
        "bytes": read["bytes"],  # UTF-8 after cleaning, copies included
        "redacted": read["redacted"],
        "languages": read["languages"],
        "batches_encoded_by_reference": sum(
            journal["mismatches"] for journal in passes.encode.get(name, [])
        ),
        "splits": {
            split: split_of(passes.shard.get(f"{name}/{split}", []), recipe.packing.sequence_length)
            for split in sharding.SPLITS
        },
    }


def documents_of(recipe: Recipe, name: str, number: int, passes: Passes) -> dict[str, Any]:
    """What became of the documents of a source."""
    read, selected = passes.read[name], passes.select[name]
    dropped = Counter(read["dropped"])
    dropped["duplicate"] += sum(passes.merge["exact"][number])
    dropped["near duplicate"] += sum(passes.merge["near"][number])
    dropped["only repeated lines"] += passes.merge["emptied"][number]
    dropped[f"shorter than {recipe.packing.drop_shorter_than} tokens"] += selected["short"]
    found = {
        "read": read["read"],
        "augmented": read["augmented"],
        "kept": selected["kept"],
        "dropped": {reason: count for reason, count in sorted(dropped.items()) if count},
        "quarantined": read["quarantined"],
    }
    came = found["read"] + found["augmented"]
    gone = sum(found["dropped"].values()) + sum(found["quarantined"].values())
    assert came == found["kept"] + gone, f"source {name} loses documents: {found}"
    return found
