"""`augment RECIPE [key.path=value ...] [--task NAME] [--rows N]`: write augmented training rows and
show examples.

Writes output/finetune/TASK/augmented.jsonl: a copy a line, in the form the task's reader accepts,
with `origin` (index of the training row it was made from, counted from 0) and `operation`. All
operations of the task's `augment` are used, whatever `[augment] auto` says. Nothing is trained.
"""

import json
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runtime import command
from runtime.errors import DataError, RecipeError

if TYPE_CHECKING:
    from finetune.config import Recipe

FILE = "augmented.jsonl"


def add_arguments(parser: ArgumentParser) -> None:
    command.add_arguments(parser)
    parser.add_argument("--task", help="one task of the recipe; without it: all with `augment`")
    parser.add_argument("--rows", type=int, help="copy the first N training rows only")


def run(found: Namespace) -> None:
    from finetune.config import Recipe
    from finetune.plan import missing_file
    from runtime import recipe, stages

    checked = recipe.load(found.recipe, tuple(found.overrides), Recipe)
    if found.rows is not None and found.rows < 1:
        raise RecipeError(f"--rows {found.rows}: at least 1 row must be copied")
    names = names_of(checked, found.task)
    waiting = next(filter(None, (missing_file(checked.tasks[name]) for name in names)), None)
    if waiting:
        raise DataError(f"finetune augment cannot start: {waiting}")
    for name in names:
        path = stages.folder(checked.output, "finetune") / name / FILE
        if found.dry_run:
            kinds = ", ".join(operation.kind for operation in checked.tasks[name].augment)
            print(f"finetune.{name}.augment: {kinds}\n  file  {path}")
        else:
            augment(checked, name, path, found.rows)


def names_of(checked: "Recipe", task: str | None) -> list[str]:
    """The tasks that are meant. Raises RecipeError if they have nothing to do."""
    if task and task not in checked.tasks:
        known = ", ".join(checked.tasks) or "none"
        raise RecipeError(f"--task {task}: the tasks of the recipe are: {known}")
    names = [task] if task else list(checked.tasks)
    names = [name for name in names if checked.tasks[name].augment]
    if not names:
        raise RecipeError(
            f"tasks.{task or 'NAME'}.augment is empty: list operations there, for example "
            '[{ kind = "synonym" }]'
        )
    return names


def augment(checked: "Recipe", name: str, path: Path, num_rows: int | None) -> None:
    """Write and show the copies of one task."""
    from rich.console import Console

    from finetune.augmentation import augmenting, copying, row_text
    from finetune.plan import encoder_name
    from finetune.prepare import read
    from runtime import plugins, provenance

    task = checked.tasks[name]
    task = task.model_copy(update={"encoder": encoder_name(checked, task)})
    augmenting.check(name, task)
    data = read(checked, name)
    train = data["train"].rows
    numbers = range(len(train))[:num_rows]
    plugin = plugins.find("finetune.tasks", task.kind)
    places = range(len(task.augment))
    found = copying.copies(plugin, task, data, places, checked.seed, numbers)
    kinds = augmenting.names(task.augment)
    lines = [
        json.dumps(
            {
                **row_text.as_json(copy.row, task),
                "origin": copy.origin,
                "operation": kinds[copy.place],
            },
            ensure_ascii=False,
        )
        + "\n"
        for copy in found.copies
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    provenance.write_text(path, "".join(lines))
    console = Console()
    console.print(counts_table(name, copying.by_operation(task, found)))
    console.print(examples_table(copying.examples(task, train, found)))
    console.print(
        f"{len(found.copies)} copies of {len(numbers)} training rows in {path}",
        markup=False, highlight=False, soft_wrap=True,
    )  # fmt: skip


def counts_table(name: str, counts: dict[str, dict[str, int]]) -> Any:
    """What became of the copies of each operation."""
    from rich.table import Table

    table = Table("operation", title=f"{name}: copies by operation", title_justify="left")
    for reason in next(iter(counts.values())):
        table.add_column(reason.replace("_", " "), justify="right")
    for operation, found in counts.items():
        table.add_row(operation, *(f"{count:,}" for count in found.values()))
    return table


def examples_table(examples: list[dict[str, str]]) -> Any:
    """Rows and their copies side by side."""
    from rich.table import Table
    from rich.text import Text

    table = Table("operation", "row", "copy", title="examples", title_justify="left")
    for found in examples:
        table.add_row(found["operation"], Text(found["from"]), Text(found["to"]))
    return table
