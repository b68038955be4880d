"""The `textmill` command: run a pipeline, see how far it is, read what came out.

    textmill run RECIPE [key.path=value ...] [--dry-run]
    textmill status RUN
    textmill report RUN

RUN is the output folder of a recipe. Each command imports what it needs when it is chosen, so that
`textmill --help` does not wait for the others (the report alone needs matplotlib).
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from runtime import command
from runtime.errors import run_command


def arguments_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="textmill", description="From raw text of many domains to tested task models."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    run = commands.add_parser(
        "run",
        help="run every stage of a recipe whose inputs have changed",
        description="Run the stages of a recipe in order; a stage that is up to date is skipped, "
        "one that was interrupted goes on. Exit codes: 0 done, 2 recipe, 3 data, 4 loss not "
        "finite, 5 lost rank, 6 memory, 7 disk, 75 stopped on request: run it again.",
    )
    command.add_arguments(run)
    for name, text in (
        ("status", "show how far each stage of a run is"),
        ("report", "write one HTML page about a run"),
    ):
        parsed = commands.add_parser(name, help=text, description=f"{text.capitalize()}.")
        parsed.add_argument("run", type=Path, help="output folder of the recipe")
    return parser


def chosen(found: argparse.Namespace) -> Callable[[], None]:
    """The command to run, with only its own imports."""
    if found.command == "run":
        from launch import pipeline

        arguments = command.Arguments(found.recipe, tuple(found.overrides), found.dry_run)
        return lambda: pipeline.run(arguments)
    if found.command == "status":
        from launch import status

        return lambda: status.show(found.run)
    from launch import report

    return lambda: print(f"report: {report.write(found.run)}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point of the console script."""
    parser = arguments_parser()
    found, rest = parser.parse_known_args(arguments)
    if rest and (found.command != "run" or any(word.startswith("-") for word in rest)):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    if rest:  # overrides after an option, which argparse does not join to those before it
        found.overrides = [*found.overrides, *rest]
    return run_command(lambda: chosen(found)())


if __name__ == "__main__":
    sys.exit(main())
