"""The manifest of a corpus: what came in, what became of it, and what the shards are.

Per source: documents read = kept + dropped by reason + quarantined by reason; per split samples,
tokens, segments, documents, documents cut, padding, and the shards with their block hashes.
"""

from collections import Counter
from typing import Any

from data_prep import sharding
from data_prep.config import Recipe
from data_prep.shards import FORMAT, TokenizerFacts, manifest_fingerprint
from runtime import provenance
from runtime.errors import DataError
from runtime.stages import Plan

Journals = dict[str, list[dict[str, Any]]]
DUPLICATE = "duplicate"


def manifest_of(
    recipe: Recipe,
    plan: Plan,
    tokenizer: TokenizerFacts,
    read: dict[str, Any],
    copies: list[list[int]],
    encoded: Journals,
    shards: Journals,
) -> dict[str, Any]:
    """Put the journals together. Raises DataError if nothing is left to train on."""
    config = recipe.model_dump(
        mode="json", include={"sources", "clean", "dedup", "tokenizer", "packing"}
    )
    sources = {}
    for number, (name, params) in enumerate(recipe.sources.items()):
        sources[name] = {
            "domain": params.domain,
            "reader": params.reader,
            "documents": documents_of(
                recipe, read[name], sum(copies[number]), encoded.get(name, [])
            ),
            "bytes": read[name]["bytes"],  # UTF-8 after cleaning, copies included
            "batches_encoded_by_reference": sum(
                journal["mismatches"] for journal in encoded.get(name, [])
            ),
            "splits": {
                split: split_of(shards.get(f"{name}/{split}", []), recipe.packing.sequence_length)
                for split in sharding.SPLITS
            },
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
        },
        "config": config,
        "config_fingerprint": provenance.fingerprint(config),
        "duplicates": {
            name: dict(zip(recipe.sources, row, strict=True))
            for name, row in zip(recipe.sources, copies, strict=True)
        },
        "sources": sources,
    }
    return manifest | {"fingerprint": manifest_fingerprint(manifest)}


def documents_of(
    recipe: Recipe, read: dict[str, Any], num_copies: int, encoded: list[dict[str, Any]]
) -> dict[str, Any]:
    """What became of the documents of a source."""
    dropped = Counter(read["dropped"])
    dropped[DUPLICATE] += num_copies
    short = sum(journal["short"] for journal in encoded)
    dropped[f"shorter than {recipe.packing.drop_shorter_than} tokens"] += short
    return {
        "read": read["read"],
        "kept": sum(journal["kept"] for journal in encoded),
        "dropped": {reason: count for reason, count in sorted(dropped.items()) if count},
        "quarantined": read["quarantined"],
    }


def split_of(entries: list[dict[str, Any]], sequence_length: int) -> dict[str, Any]:
    """Counts of a split and its shards."""
    totals = {
        key: sum(entry[key] for entry in entries)
        for key in ("num_samples", "num_tokens", "num_segments", "num_documents", "documents_cut")
    }
    padding = totals["num_samples"] * sequence_length - totals["num_tokens"]
    own = ("name", "num_samples", "num_segments", "num_tokens", "num_documents", "files")
    return totals | {
        "padding_tokens": padding,
        "shards": [{key: entry[key] for key in own} for entry in entries],
    }
