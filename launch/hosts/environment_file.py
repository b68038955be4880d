r"""The environment file: variables that every rank gets, one `NAME=value` a line.

It is the file that DeepSpeed's own runner reads (`.deepspeed_env`, at home and in the working
folder), with the same meaning wherever that runner keeps a value as it is:

    NAME=value      the value is everything behind `=`, without the blanks at both ends; nothing in
                    it is special: no quotes, no `#`, no `$`, no backslash
    NAME="value"    a JSON string, for all other values: blanks at the ends, quotes around it, line
                    breaks (`\n`)
    # comment       and blank lines, which DeepSpeed's runner does not understand

Values reach ranks as they are, by the standard input of the agent on each host: they appear on no
command line and in no shell. (With the plain `deepspeed` command they go through two shells; see
docs/hostfile.md.) Refused, with line numbers: names that are none or come twice, variables that the
launcher sets itself, NUL, single quotes around a value.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path

from runtime.errors import RecipeError

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
FILE = ".deepspeed_env"
# What tells a rank who it is; MASTER_ADDR may be set, for hosts with several networks.
OF_A_RANK = frozenset(
    {"RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "LOCAL_SIZE", "MASTER_PORT"}
    | {"CROSS_RANK", "CROSS_SIZE", "TEXTMILL_HOST", "TEXTMILL_LAUNCHED"}
)


def files(named: Path | None) -> list[Path]:
    """The files to read, a later one before an earlier: the one named, else those of DeepSpeed."""
    if named is not None:
        return [named]
    return [path for path in (Path.home() / FILE, Path(FILE)) if path.is_file()]


def read(named: Path | None) -> dict[str, str]:
    """The variables of all files. Raises RecipeError with every line that is wrong."""
    found: dict[str, str] = {}
    for path in files(named):
        found |= read_file(path)
    return found


def read_file(path: Path) -> dict[str, str]:
    """The variables of one file. Raises RecipeError; the message holds no value."""
    try:
        text = path.read_bytes().decode("utf-8")
    except OSError as error:
        raise RecipeError(f"cannot read the environment file {path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise RecipeError(f"the environment file {path} is not UTF-8 on line {line}") from None
    variables: dict[str, str] = {}
    problems = list(parse(text, variables))
    if problems:
        count = f"{len(problems)} problem{'s' if len(problems) > 1 else ''}"
        rows = "\n".join(f"  {problem}" for problem in problems)
        raise RecipeError(f"{count} in the environment file {path}\n{rows}")
    return variables


def parse(text: str, variables: dict[str, str]) -> Iterator[str]:
    """Add the variables of a text; yields what is wrong, never with a value."""
    for number, line in enumerate(text.split("\n"), 1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        name, equals, given = (part.strip() for part in line.partition("="))
        if not equals or NAME.fullmatch(name) is None:
            hint = "; leave out `export`" if name.startswith("export ") else ""
            yield f"line {number} is no `NAME=value`{hint}"
        elif name in variables:
            yield f"line {number} sets {name} again"
        elif name in OF_A_RANK:
            yield f"line {number} sets {name}, which the launcher sets for each rank"
        else:
            value = value_of(given)
            if value is None:
                yield (
                    f"line {number}: the value of {name} is no JSON string although it begins with "
                    'a double quote; write a quote in it as \\" and a backslash as \\\\'
                )
            elif len(given) > 1 and given[0] == given[-1] == "'":
                yield (
                    f"line {number}: the value of {name} is in single quotes; leave them out, or "
                    "use double quotes if they belong to the value"
                )
            elif fault := unfit(value):
                yield f"line {number}: the value of {name} {fault}"
            else:
                variables[name] = value


def value_of(given: str) -> str | None:
    """The value that is meant; None for a JSON string that is none."""
    if not given.startswith('"'):
        return given
    try:
        found = json.loads(given)
    except ValueError:
        return None
    return found if isinstance(found, str) else None


def unfit(value: str) -> str | None:
    """Why a value cannot be that of a variable."""
    if "\0" in value:
        return "holds NUL, which no variable can"
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        return "holds half a surrogate pair, which is no character"
    return None
