"""`predict MODEL [--runtime onnx] < in.jsonl > out.jsonl`: answer JSON lines."""

from argparse import ArgumentParser, Namespace
from pathlib import Path


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("model", type=Path, help="export folder of a task")
    parser.add_argument("--runtime", choices=("torch", "onnx"), default="torch")


def run(found: Namespace) -> None:
    from finetune import predict
    from finetune.commands.train import quiet

    quiet()
    predict.main(found.model, found.runtime)
