"""`python -m finetune COMMAND ...`, or `python -m finetune RECIPE ...`, which is `train`.

Nothing heavy is imported here: each command is imported when it is chosen. Training starts or
resumes; the same arguments work under `deepspeed --no_local_rank --module finetune`.
"""

import sys
from collections.abc import Sequence

from runtime import command, signals

PROGRAM = "python -m finetune"
COMMANDS = {
    "train": "train, test and export all tasks; `python -m finetune RECIPE ...` is the same",
    "predict": "answer JSON lines from standard input with a model",
    "evaluate": "score a model on another file",
    "export": "write a model for other runtimes and compare it with torch",
    "augment": "write augmented training rows of a task and show examples",
    "search": "try settings of the recipe's [search] and rank them",
    "crossvalidate": "train a task on folds and score every row once",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if not given or given[0] in ("-h", "--help"):
        return overview(is_asked=bool(given))
    name = given.pop(0) if given[0] in COMMANDS else "train"
    if name in ("train", "search", "crossvalidate"):
        # Before torch is imported: a signal that arrives during it must not end the process.
        signals.install()

    from argparse import ArgumentParser
    from importlib import import_module

    from runtime.errors import run_command

    module = import_module(f"finetune.commands.{name}")
    parser = ArgumentParser(prog=f"{PROGRAM} {name}", description=f"{COMMANDS[name]}.")
    module.add_arguments(parser)
    found = parser.parse_intermixed_args(given)
    return run_command(lambda: module.run(found))


def overview(is_asked: bool) -> int:
    """Print the commands; without any argument that is an error."""
    rows = "\n".join(f"  {name:14} {text}" for name, text in COMMANDS.items())
    text = (
        f"usage: {PROGRAM} [COMMAND] ...\n\nFrom an encoder to tested task models, and what is "
        f"done with them.\n\n{rows}\n\n`{PROGRAM} COMMAND --help` tells the rest."
    )
    print(text, file=sys.stdout if is_asked else sys.stderr)
    return 0 if is_asked else 2


if __name__ == "__main__":
    command.leave(main)
