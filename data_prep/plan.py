"""What `python -m data_prep` would do: the inputs, their fingerprint, and lines for people."""

from typing import Any

from pydantic import TypeAdapter

from data_prep import augmenting, decontamination, tokenizer, units
from data_prep.config import Recipe
from data_prep.files import id_prefixes
from data_prep.sources import InputFile
from runtime import provenance, stages
from runtime.stages import Plan

FORMAT_VERSION = 2  # raise it when the same inputs come to give other shards


def plan(recipe: Recipe) -> Plan:
    """Look up the input files and fingerprint all that the shards depend on. Raises DataError."""
    folder = stages.folder(recipe.output, "data_prep")
    files = units.inputs(recipe.sources)
    return Plan("data_prep", folder, inputs_fingerprint(recipe, files), lines(recipe, files))


def inputs_fingerprint(recipe: Recipe, files: dict[str, list[InputFile]]) -> str:
    """Fingerprint of the tables that shape the shards, in recipe order, and of every input file.

    Not of the number of workers, the output folder or the mixture: shards do not depend on them.
    """
    return provenance.fingerprint(
        {
            "format": FORMAT_VERSION,
            "config": config_of(recipe),
            "sources": [[name, identities(files[name])] for name in recipe.sources],
            "decontaminate_files": identities(decontamination.inputs(recipe.decontaminate)),
            "augment_files": identities(augmenting.inputs(recipe.augment)),
            "tokenizer_files": tokenizer.inputs(recipe.tokenizer),
        }
    )


def config_of(recipe: Recipe) -> dict[str, Any]:
    """The tables that shape the shards; the manifest keeps them, so that a corpus can be repaired
    without its recipe. The seed counts only where something is drawn by it."""
    tables = {"sources", "clean", "decontaminate", "augment", "dedup", "tokenizer", "packing"}
    # As data preparation knows them: later stages add settings of their own to `augment`.
    config: dict[str, Any] = TypeAdapter(Recipe).dump_python(recipe, mode="json", include=tables)
    # The order of sources is their priority, which a sorted fingerprint would not see.
    return config | {
        "source_order": list(recipe.sources),
        "seed": recipe.seed if recipe.augment.steps else None,
    }


def identities(files: list[InputFile]) -> list[tuple[str, int, str]]:
    """What makes inputs the same ones. Not the folder they all lie in: the recipe's own path counts
    as written, so that a project which moves with its data is still up to date."""
    names = id_prefixes(files)
    return [(names[file.path], file.size, file.version) for file in files]


def lines(recipe: Recipe, files: dict[str, list[InputFile]]) -> list[str]:
    """One line a source, then what is made of them."""
    found = []
    for name, params in recipe.sources.items():
        size = sum(file.size for file in files[name])
        shown = f"{size / 1e6:,.1f} MB" if size else "size unknown"
        found.append(
            f"source {name}: {params.reader}, domain {params.domain}, "
            f"{len(files[name])} files, {shown}"
        )
    packing = recipe.packing
    found.append(tokenizer.line(recipe.tokenizer))
    total = sum(file.size for listed in files.values() for file in listed)
    found.append(
        f"samples of {packing.sequence_length} tokens ({packing.strategy}), "
        f"{packing.valid_share:.2%} for validation; "
        f"needs about {3 * total / 1e6:,.0f} MB of disk while it runs"
    )
    return found
