"""The `textmill` command: run a pipeline, see how far it is, read what came out.

    textmill run RECIPE [key.path=value ...] [--launcher L] [--hostfile H] [--dry-run]
    textmill status RUN
    textmill report RUN
    textmill doctor [RECIPE] [--hostfile H | --slurm]

RUN is the output folder of a recipe. Each command imports what it needs when it is chosen, so that
`textmill --help` does not wait for the others (the report alone needs matplotlib).
"""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from launch.doctor import command as doctor_command
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
    run.add_argument(
        "--launcher", choices=("local", "deepspeed", "slurm"), help="same as launch.launcher"
    )
    run.add_argument(
        "--hostfile", type=Path, help="same as launch.hostfile, with the deepspeed launcher"
    )
    for name, text in (
        ("status", "show how far each stage of a run is"),
        ("report", "write one HTML page about a run"),
    ):
        parsed = commands.add_parser(name, help=text, description=f"{text.capitalize()}.")
        parsed.add_argument("run", type=Path, help="output folder of the recipe")
    doctor = commands.add_parser(
        "doctor",
        help="say what is not ready for a run, and how to put it right",
        description="Look at this machine, the hosts of a hostfile or the nodes of SLURM. One line "
        "for each finding. Exit codes: 0 ready, 2 not ready.",
    )
    doctor_command.add_arguments(doctor)
    return parser


def chosen(found: argparse.Namespace) -> Callable[[], None]:
    """The command to run, with only its own imports."""
    if found.command == "run":
        from launch import pipeline

        overrides = (*found.overrides, *launch_overrides(found.launcher, found.hostfile))
        arguments = command.Arguments(found.recipe, overrides, found.dry_run)
        return lambda: pipeline.run(arguments)
    if found.command == "doctor":
        return lambda: doctor_command.run(found)
    if found.command == "status":
        from launch import status

        return lambda: status.show(found.run)
    from launch import report

    return lambda: print(f"report: {report.write(found.run)}")


def launch_overrides(launcher: str | None, hostfile: Path | None) -> list[str]:
    """The overrides that the options of `run` stand for."""
    given = {"launcher": launcher or ("deepspeed" if hostfile else None), "hostfile": hostfile}
    return [
        f"launch.{key}={json.dumps(str(value), ensure_ascii=False)}"
        for key, value in given.items()
        if value is not None
    ]


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
