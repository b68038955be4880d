"""`export MODEL ROWS [key=value ...]`: write a model for other runtimes and compare with torch.

ROWS is a labelled file in the task's format, on which score and speed are measured. The keys are
those of the recipe's [export] table, for example `onnx_int8=true tflite_lengths=[32,64]`; without a
target, `onnx=true`.
"""

import json
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from finetune.config import Export


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("model", type=Path, help="export folder of a task")
    parser.add_argument("file", type=Path, help="labelled rows in the task's format")
    parser.add_argument(
        "settings", nargs="*", metavar="key=value", help="of [export], for example tflite=true"
    )


def run(found: Namespace) -> None:
    from finetune import predict
    from finetune.commands.train import quiet
    from finetune.exporters import export

    table = table_of(found.settings)
    quiet()
    rows = predict.labelled(predict.load(found.model), found.file)
    print(json.dumps(export.export(found.model, table, rows), indent=2))


def table_of(settings: Sequence[str]) -> "Export":
    """The [export] table that settings make. Raises RecipeError naming every key that is wrong."""
    from pydantic import ValidationError

    from finetune.config import Export
    from finetune.runners import FILES
    from runtime.errors import RecipeError
    from runtime.recipe import apply_overrides, problems_of

    given: dict[str, Any] = {}
    apply_overrides(given, settings)
    if not any(name.replace("-", "_") in given for name in FILES):
        given["onnx"] = True
    try:
        return Export.model_validate_json(json.dumps(given, default=str))
    except ValidationError as error:
        told = "; ".join(
            f"{'.'.join(map(str, each.path))}: {each.message}"
            for each in problems_of(error, Export)
        )
        raise RecipeError(f"the settings of the export do not fit: {told}") from None
