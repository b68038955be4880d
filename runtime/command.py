"""The command line every stage shares: one recipe, overrides, `--dry-run`."""

import argparse
import logging
import os
import sys
import traceback
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from runtime import bus_errors
from runtime.redaction import redacted
from runtime.stages import Plan


@dataclass(frozen=True)
class Arguments:
    """What a stage is told on the command line."""

    recipe: Path
    overrides: tuple[str, ...]
    dry_run: bool
    accept_drift: bool = False


def parser(program: str, description: str) -> argparse.ArgumentParser:
    """The arguments of a stage that trains."""
    parsed = argparse.ArgumentParser(prog=program, description=description)
    add_arguments(parsed)
    add_drift_argument(parsed)
    return parsed


def add_drift_argument(parsed: argparse.ArgumentParser) -> None:
    """The argument of commands that train."""
    parsed.add_argument(
        "--accept-drift",
        action="store_true",
        help="continue a checkpoint of another recipe; the differences are recorded",
    )


def add_arguments(parsed: argparse.ArgumentParser) -> None:
    """The arguments every stage takes, for a parser or a sub-command."""
    parsed.add_argument("recipe", type=Path, help="recipe file (TOML)")
    parsed.add_argument(
        "overrides", nargs="*", metavar="key.path=value", help="TOML values; strings need quotes"
    )
    parsed.add_argument("--dry-run", action="store_true", help="print the plan and touch nothing")


def parse(program: str, description: str, arguments: Sequence[str] | None = None) -> Arguments:
    """Parse the command line of a stage."""
    found = parser(program, description).parse_args(arguments)
    return Arguments(found.recipe, tuple(found.overrides), found.dry_run, found.accept_drift)


def start_logging() -> None:
    """Rank 0 logs information, the others warnings; what libraries repeat at every start is left
    out."""
    level = logging.INFO if os.environ.get("RANK", "0") == "0" else logging.WARNING
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"torch\.distributed\.")
    logging.getLogger("textmill").setLevel(level)
    logging.getLogger("DeepSpeed").addFilter(is_news)


def is_news(record: logging.LogRecord) -> bool:
    """False for what DeepSpeed says of every optimizer that is not its own: ours are tested."""
    return "untested optimizer" not in str(record.msg)


def print_plan(plan: Plan) -> None:
    """Print a plan the way `--dry-run` does in every stage."""
    state = plan.pending or ("up to date, nothing to do" if plan.is_done else "to do")
    lines = [f"{plan.stage}: {state}", f"folder  {plan.folder}", *plan.lines]
    print(redacted("\n  ".join(lines), os.environ))
    for part in plan.parts:
        print_plan(part)


def leave(main: Callable[[], int]) -> NoReturn:
    """Run a command that may start ranks and end the process with its exit code.

    The interpreter is not taken down: threads of the collectives that still hold tensors then wait
    for it in C++ and abort a process that has done its work ("terminate called without an active
    exception", exit code -6). Whatever must reach a file is closed before a command returns.
    """
    bus_errors.explain()
    try:
        code = main()
    except SystemExit as end:  # argparse
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        code = 1
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):  # nobody reads it, or its disk is full
            stream.flush()
    os._exit(code)
