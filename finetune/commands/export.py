"""`export MODEL ROWS [--opset N]`: write model.onnx and compare it with torch on rows of a file."""

import json
from argparse import ArgumentParser, Namespace
from pathlib import Path


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("model", type=Path, help="export folder of a task")
    parser.add_argument("file", type=Path, help="labelled rows in the task's format")
    parser.add_argument("--opset", type=int, default=20)


def run(found: Namespace) -> None:
    from finetune import export, predict
    from finetune.commands.train import quiet
    from finetune.config import Export

    quiet()
    rows = predict.rows(found.model, found.file)
    print(json.dumps(export.export_onnx(found.model, Export(opset=found.opset), rows), indent=2))
