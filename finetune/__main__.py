"""Fine-tuning and what is done with its models.

    python -m finetune RECIPE [key.path=value ...] [--dry-run]     train, test and export all tasks
    python -m finetune evaluate MODEL FILE [--runtime onnx]        score a model on another file
    python -m finetune predict MODEL [--runtime onnx] < in.jsonl > out.jsonl
    python -m finetune export MODEL ROWS [--opset N]               write and check model.onnx

MODEL is the export folder of a task. Training starts or resumes; the same arguments work under
`deepspeed --no_local_rank --module finetune`.
"""

import argparse
import json
import sys
from pathlib import Path

from runtime import command, signals
from runtime.errors import DataError, RecipeError, run_command

MODEL_COMMANDS = ("evaluate", "predict", "export")


def finetune() -> None:
    arguments = command.parse("python -m finetune", "Fine-tune an encoder on the recipe's tasks.")
    from finetune.config import Recipe
    from finetune.plan import plan
    from runtime import recipe

    checked = recipe.load(arguments.recipe, arguments.overrides, Recipe)
    planned = plan(checked)
    if arguments.dry_run or planned.is_done:
        command.print_plan(planned)
        return
    if planned.pending:
        fault = DataError if checked.tasks else RecipeError
        raise fault(f"fine-tuning cannot start: {planned.pending}")
    from finetune.train import run
    from runtime import processes

    quiet()
    engine = checked.engine
    with processes.joined(engine.collective_timeout_seconds, engine.threads_per_rank):
        run(checked, planned, arguments.accept_drift)


def quiet() -> None:
    """Log our own lines; what transformers says about new heads is checked in finetune/heads.py."""
    import transformers

    command.start_logging()
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()


def use_model() -> None:
    """The commands about a model that has been exported."""
    parser = argparse.ArgumentParser(prog="python -m finetune")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, description in (
        ("evaluate", "print the scores of a model on a file as JSON"),
        ("predict", "answer JSON lines from standard input"),
        ("export", "write model.onnx and compare it with torch on rows of a file"),
    ):
        added = commands.add_parser(name, help=description, description=description)
        added.add_argument("model", type=Path, help="export folder of a task")
        if name != "predict":
            added.add_argument("file", type=Path, help="labelled rows in the task's format")
        if name != "export":
            added.add_argument("--runtime", choices=("torch", "onnx"), default="torch")
        else:
            added.add_argument("--opset", type=int, default=20)
    given = parser.parse_args()
    from finetune import export, predict
    from finetune.config import Export

    quiet()
    if given.command == "predict":
        predict.main(given.model, given.runtime)
    elif given.command == "evaluate":
        scores = predict.evaluate(given.model, given.file, given.runtime)
        print(json.dumps(scores, indent=2, ensure_ascii=False))
    else:
        found = export.export_onnx(given.model, Export(opset=given.opset), given.file)
        print(json.dumps(found, indent=2))


def main() -> int:
    if len(sys.argv) > 1 and sys.argv[1] in MODEL_COMMANDS:
        return run_command(use_model)
    # Before torch is imported: a signal that arrives during the import must not end the process.
    signals.install()
    return run_command(finetune)


if __name__ == "__main__":
    command.leave(main)
