"""`predict MODEL [--runtime onnx-int8] < in.jsonl > out.jsonl`: answer JSON lines.

A line is a JSON string or an object with the task's fields; its other fields are kept, those the
answer has too are replaced. Only `--runtime torch` imports torch.
"""

from argparse import ArgumentParser, Namespace
from pathlib import Path

THRESHOLD = "least probability of entities or labels; else as fitted on valid"


def add_arguments(parser: ArgumentParser) -> None:
    from finetune.runners import RUNTIMES

    parser.add_argument("model", type=Path, help="export folder of a task")
    parser.add_argument("--runtime", choices=RUNTIMES, default="torch")
    parser.add_argument(
        "--threads", type=positive, help="of the CPU; else OMP_NUM_THREADS or all cores"
    )
    parser.add_argument(
        "--batch-tokens", type=positive, help="tokens run together, padding included"
    )
    parser.add_argument("--threshold", type=float, help=THRESHOLD)


def positive(text: str) -> int:
    """A whole number of at least 1."""
    if int(text) < 1:
        raise ValueError(text)
    return int(text)


def run(found: Namespace) -> None:
    from finetune import predict

    if found.runtime == "torch":
        from finetune.commands.train import quiet

        quiet()
    opened = predict.load(found.model, found.runtime, found.threads, found.batch_tokens)
    predict.main(opened.at(found.threshold))
