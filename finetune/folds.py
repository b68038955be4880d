"""Folds of labelled rows: every row is in exactly one, and no document is cut.

A pure function of the rows, the number of folds and a seed. Documents are handed out one after
another, those with the rarest label first, each to the fold that lacks most of that label, then the
one that lacks most rows (iterative stratification: Sechidis, Tsoumakas, Vlahavas 2011, "On the
Stratification of Multi-Label Data"). So every fold has about the same share of each label, or
entity type, and about the same number of rows. Rows without a label, and rows whose label is a
number, are spread evenly.
"""

from collections import Counter, defaultdict
from collections.abc import Hashable, Sequence
from random import Random
from types import ModuleType
from typing import Any

from finetune.task import Dataset
from runtime.errors import DataError

Strata = Counter[Hashable]  # how often a row, or a document, has each label


def of(plugin: ModuleType, dataset: Dataset, number: int, seed: int) -> list[list[int]]:
    """The rows of a task's file in folds. Raises DataError if it holds too few documents."""
    strata = [strata_of(row, plugin.HEAD) for row in dataset.rows]
    try:
        return split(plugin.groups(dataset), strata, number, seed)
    except ValueError as reason:
        raise DataError(f"{dataset.path}: {reason}; use fewer folds or add training rows") from None


def divided(rows: Sequence[Any], fold: Sequence[int]) -> tuple[list[Any], list[Any]]:
    """The rows outside a fold and those in it."""
    inside = set(fold)
    return [row for i, row in enumerate(rows) if i not in inside], [rows[i] for i in fold]


def split(
    documents: Sequence[int], strata: Sequence[Strata], number: int, seed: int
) -> list[list[int]]:
    """The rows of every fold, ascending; `documents` and `strata` say what each row is part of.

    Raises ValueError if there are fewer documents than folds: one would be empty.
    """
    rows_of: dict[int, list[int]] = defaultdict(list)
    labels_of: dict[int, Strata] = defaultdict(Strata)
    totals = Strata()
    for row, (document, labels) in enumerate(zip(documents, strata, strict=True)):
        rows_of[document].append(row)
        labels_of[document].update(labels)
        totals.update(labels)
    if len(rows_of) < number:
        raise ValueError(f"{len(rows_of)} documents are too few for {number} folds")
    # In whole numbers, so that equal needs are equal: a fold needs its share times `number`.
    needs = [Counter(totals) for _ in range(number)]
    rows_needed = [len(documents)] * number
    folds: list[list[int]] = [[] for _ in range(number)]
    rng = Random(seed)
    for document in ordered(rows_of, labels_of, totals, rng):
        rarest = rarest_of(labels_of[document], totals)
        fold = max(range(number), key=lambda i: (needs[i][rarest], rows_needed[i], rng.random()))
        folds[fold] += rows_of[document]
        rows_needed[fold] -= number * len(rows_of[document])
        for label, count in labels_of[document].items():
            needs[fold][label] -= number * count
    return [sorted(fold) for fold in folds]


def ordered(
    rows_of: dict[int, list[int]], labels_of: dict[int, Strata], totals: Strata, rng: Random
) -> list[int]:
    """Documents with the rarest labels first, of those the largest first, else in any order."""
    drawn = {document: rng.random() for document in rows_of}

    def key(document: int) -> tuple[float, int, float]:
        rarest = rarest_of(labels_of[document], totals)
        rarity = float("inf") if rarest is None else totals[rarest]
        return rarity, -len(rows_of[document]), drawn[document]

    return sorted(rows_of, key=key)


def rarest_of(labels: Strata, totals: Strata) -> Hashable:
    """The label that fewest rows have; None without any."""
    return min(labels, key=lambda label: (totals[label], str(label)), default=None)


def strata_of(row: Any, head: str) -> Strata:
    """Entity types of a sentence, else the row's label or labels."""
    if head == "token":
        return Strata(entity.type for entity in row.entities)
    if isinstance(row.label, str):
        return Strata([row.label])
    if isinstance(row.label, list | tuple | set | frozenset):
        return Strata(row.label)
    return Strata()
