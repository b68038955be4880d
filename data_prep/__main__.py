"""`python -m data_prep COMMAND ...`, or `python -m data_prep RECIPE ...`, which is `build`.

Nothing heavy is imported here: each command is imported when it is chosen, and every worker of a
build imports this file once more.
"""

import sys
from collections.abc import Sequence

PROGRAM = "python -m data_prep"
GARBAGE_OBJECTS = 50_000  # between collections: documents come in thousands and form no cycles
COMMANDS = {
    "build": "raw corpora to shards; `python -m data_prep RECIPE ...` is the same",
    "verify": "check every block of a corpus; name what is damaged and what repairs it",
    "repair": "write damaged shards anew, from the inputs they came from",
    "stats": "what a corpus holds: documents, tokens, drops, duplicates, lengths, languages",
    "inspect": "show samples as text, with their segments",
    "repack": "the same tokens in samples of another length, without the raw text",
    "train-tokenizer": "read the sources and train the tokenizer, no more",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if not given or given[0] in ("-h", "--help"):
        return overview(is_asked=bool(given))
    name = given.pop(0) if given[0] in COMMANDS else "build"

    import gc
    from argparse import ArgumentParser
    from importlib import import_module

    from runtime.errors import run_command

    gc.set_threshold(GARBAGE_OBJECTS, 50, 50)
    module = import_module(f"data_prep.commands.{name.replace('-', '_')}")
    parser = ArgumentParser(prog=f"{PROGRAM} {name}", description=f"{COMMANDS[name]}.")
    module.add_arguments(parser)
    found = parser.parse_intermixed_args(given)
    return run_command(lambda: module.run(found))


def overview(is_asked: bool) -> int:
    """Print the commands; without any argument that is an error."""
    rows = "\n".join(f"  {name:16} {text}" for name, text in COMMANDS.items())
    text = (
        f"usage: {PROGRAM} [COMMAND] ...\n\nFrom raw corpora to shards of samples, and what to do "
        f"with them afterwards.\n\n{rows}\n\n`{PROGRAM} COMMAND --help` tells the rest."
    )
    print(text, file=sys.stdout if is_asked else sys.stderr)
    return 0 if is_asked else 2


if __name__ == "__main__":
    sys.exit(main())
