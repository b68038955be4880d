"""A task made ready to be trained: its rows read, checked and encoded. Writes nothing."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

from finetune import encoder, sources
from finetune.config import Recipe
from finetune.encoder import Encoder
from finetune.plan import encoder_name
from finetune.task import Dataset, Encoded, Loss
from runtime import plugins
from runtime.errors import DataError

SCORED = ("valid", "test")


@dataclass(frozen=True)
class Prepared:
    """A task ready to be trained: its data as model inputs, by split."""

    name: str
    task: Any  # the plug-in's Params
    plugin: ModuleType
    encoder: Encoder
    labels: list[str]
    loss: Loss
    max_length: int
    data: dict[str, Dataset]  # train, valid and, if there is one, test
    encoded: dict[str, Encoded]

    @property
    def scored(self) -> list[str]:
        """The splits a model is scored on."""
        return [split for split in SCORED if split in self.data]

    def with_rows(self, **rows: Sequence[Any]) -> "Prepared":
        """The same task, with the same labels, on other rows of these splits (a fold, copies)."""
        data = dict(self.data)
        encoded = dict(self.encoded)
        for split, found in rows.items():
            before = self.data.get(split, self.data["train"])
            data[split] = Dataset(before.path, list(found), {"rows": len(found)})
            encoded[split] = self.encode(data[split])
        loss = self.plugin.loss(data["train"], self.labels, self.task)
        return replace(self, data=data, encoded=encoded, loss=loss)

    def encode(self, dataset: Dataset) -> Encoded:
        """Rows as model inputs. Raises DataError if there is none."""
        found: Encoded = self.plugin.encode(
            dataset, self.encoder.tokenizer, self.labels, self.task, self.max_length
        )
        if not found.windows:
            raise DataError(f"no text of {dataset.path} gives any token with this tokenizer")
        return found


def prepare(recipe: Recipe, name: str, start: Encoder | None = None) -> Prepared:
    """Read and encode a task's rows. Raises DataError before anything is written.

    `start` is the encoder if it is loaded already.
    """
    task = recipe.tasks[name]
    plugin = plugins.find("finetune.tasks", task.kind)
    start = start or encoder.load(encoder_name(recipe, task))
    max_length = encoder.input_length(task.max_length, start.longest, name)
    data = read(recipe, name)
    labels = plugin.label_set(data["train"], task)
    for dataset in data.values():
        plugin.check_labels(dataset, labels)
    loss = plugin.loss(data["train"], labels, task)
    prepared = Prepared(name, task, plugin, start, labels, loss, max_length, data, {})
    encoded = {split: prepared.encode(dataset) for split, dataset in data.items()}
    return replace(prepared, encoded=encoded)


def read(recipe: Recipe, name: str) -> dict[str, Dataset]:
    """The rows of every split; those of valid are held out of train if the task names none."""
    task = recipe.tasks[name]
    plugin = plugins.find("finetune.tasks", task.kind)
    given = {"train": task.train, "valid": task.valid, "test": task.test}
    folder = Path(recipe.output) / "finetune" / "inputs"
    data: dict[str, Dataset] = {
        split: plugin.read(sources.local_file(source, folder, f"{name}-{split}"), task)
        for split, source in given.items()
        if source is not None
    }
    if "valid" not in data:
        data |= held_out(plugin, data["train"], task.valid_every)
    return {split: data[split] for split in given if split in data}


def held_out(plugin: ModuleType, train: Dataset, every: int) -> dict[str, Dataset]:
    """Train without every n-th document, and those as valid. Raises DataError if there are too
    few."""
    numbers = {group: i for i, group in enumerate(dict.fromkeys(plugin.groups(train)))}
    is_valid = [numbers[group] % every == 0 for group in plugin.groups(train)]
    if len(numbers) < every:
        raise DataError(
            f"{train.path} holds {len(numbers)} documents: too few to hold out every {every}th for "
            "validation; set `valid` to a file or lower `valid_every`"
        )
    kept = [row for row, is_out in zip(train.rows, is_valid, strict=True) if not is_out]
    out = [row for row, is_out in zip(train.rows, is_valid, strict=True) if is_out]
    counts = {**train.counts, "rows_held_out": len(out)}
    held = Dataset(train.path, out, {"rows": len(out)})
    return {"train": Dataset(train.path, kept, counts), "valid": held}
