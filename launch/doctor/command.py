"""`textmill doctor`: is everything ready for a run?

    textmill doctor [RECIPE] [--hostfile H | --slurm] [--json] [--only NAME ...] [--skip NAME ...]

Looks at this machine, at every host of a hostfile, or at the nodes of SLURM; with a recipe also at
what that run will need. Prints one line for each finding, with what to do. Exit code 0 without a
fault, 2 with one; warnings do not count.
"""

import argparse
from pathlib import Path

from runtime.errors import Unready


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `textmill doctor`."""
    parser.add_argument("recipe", type=Path, nargs="?", help="also look at what this run needs")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--hostfile", type=Path, help="look at each of its hosts, by ssh")
    where.add_argument("--slurm", action="store_true", help="look at SLURM and at its nodes")
    parser.add_argument("--json", action="store_true", help="print JSON")
    for name, text in (("--only", "run only these checks"), ("--skip", "leave these checks out")):
        parser.add_argument(name, action="extend", nargs="+", metavar="NAME", default=[], help=text)


def run(found: argparse.Namespace) -> None:
    """Examine and print. Raises Unready if there is a fault."""
    # Not above: `textmill --help` reads this file.
    from launch.doctor import examination, output, planning

    names = examination.chosen(found.only, found.skip)
    with (
        planning.planned(found.recipe, found.hostfile, found.slurm) as plan,
        output.progress() as told,
    ):
        result = examination.examine(plan, names, told)
    if found.json:
        print(output.as_json(result))
    else:
        output.show(result)
    if result.faults:
        raise Unready(f"{output.counted(len(result.faults), 'fault')}: each line ends with its fix")
