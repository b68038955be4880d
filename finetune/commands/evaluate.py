"""`evaluate MODEL FILE [--runtime onnx]`: print the scores of a model on a file as JSON."""

import json
from argparse import ArgumentParser, Namespace
from pathlib import Path

from finetune.commands.predict import THRESHOLD


def add_arguments(parser: ArgumentParser) -> None:
    from finetune.runners import RUNTIMES

    parser.add_argument("model", type=Path, help="export folder of a task")
    parser.add_argument("file", type=Path, help="labelled rows in the task's format")
    parser.add_argument("--runtime", choices=RUNTIMES, default="torch")
    parser.add_argument("--threshold", type=float, help=THRESHOLD)


def run(found: Namespace) -> None:
    from finetune import predict

    if found.runtime == "torch":
        from finetune.commands.train import quiet

        quiet()
    scores = predict.evaluate(found.model, found.file, found.runtime, threshold=found.threshold)
    print(json.dumps(scores, indent=2, ensure_ascii=False))
