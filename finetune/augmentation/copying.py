"""Copies of a task's training rows by its operations: made by all ranks, chosen by each alike."""

from collections.abc import Iterable, Sequence
from itertools import takewhile
from types import ModuleType
from typing import Any

from finetune.augmentation import augmenting, row_text
from finetune.augmentation.augmenting import Augmented, Copy
from finetune.task import Dataset, Task
from runtime import processes

EXAMPLES = 3  # of an operation, in a report
CHARACTERS = 300  # of an example, at most
BEFORE = 60  # of those, before the first difference


def copies(
    plugin: ModuleType,
    task: Task,
    data: dict[str, Dataset],
    places: Iterable[int],
    seed: int,
    numbers: Sequence[int] | None = None,
) -> Augmented:
    """What the operations at these places make of the training rows with these numbers (None: of
    all). All ranks call it.

    No copy has the text of a row of any other split of `data`. Each rank makes the copies of every
    world-th row; which copies there are does not depend on that.
    """
    train = data["train"].rows
    numbers = range(len(train)) if numbers is None else numbers
    mine = numbers[processes.rank() :: processes.world_size()]
    made = {place: augmenting.made(train, task, place, seed, mine) for place in places}
    gathered = processes.gather(made)
    every = [copy for found in gathered for copies, _ in found.values() for copy in copies]
    filtered = {place: sum(found[place][1] for found in gathered) for place in made}
    held_out = [row for split, found in data.items() if split != "train" for row in found.rows]
    return augmenting.chosen(train, held_out, plugin.texts, every, filtered)


def by_operation(task: Task, found: Augmented) -> dict[str, dict[str, int]]:
    """What became of the copies of each operation."""
    names = augmenting.names(task.augment)
    return {names[place]: counts for place, counts in found.counts.items()}


def examples(task: Task, train: Sequence[Any], found: Augmented) -> list[dict[str, str]]:
    """A few copies of each operation beside what they were made from, spread over the rows."""
    names = augmenting.names(task.augment)
    shown = []
    for place in found.counts:
        copies: list[Copy] = [copy for copy in found.copies if copy.place == place]
        for copy in copies[:: max(1, len(copies) // EXAMPLES)][:EXAMPLES]:
            texts = cut(row_text.shown(train[copy.origin]), row_text.shown(copy.row))
            shown.append({"operation": names[place], "from": texts[0], "to": texts[1]})
    return shown


def cut(first: str, second: str) -> tuple[str, str]:
    """Two texts, of long ones the part around the first difference."""
    start = 0
    if max(len(first), len(second)) > CHARACTERS:
        pairs = zip(first, second, strict=False)
        start = max(0, len(list(takewhile(lambda pair: pair[0] == pair[1], pairs))) - BEFORE)
    end = start + CHARACTERS
    shown = [
        ("... " if start else "") + text[start:end] + (" ..." if len(text) > end else "")
        for text in (first, second)
    ]
    return shown[0], shown[1]
