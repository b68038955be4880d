"""`python -m launch.doctor.probe`: the doctor's eyes on one host, from its first line to its last.

Standard input brings one JSON object a line, standard output returns one for each, after a mark
that tells it from what a login script prints:

    {"environment": {...}, "folder": "...", "host": "...", "plan": {...}}      the first line
    {"id": 1, "check": "clock", "call": "look", "arguments": {}}               any later one
    textmill-doctor {"id": 1, "answer": {...}}  or  {"id": 1, "error": "OSError: ..."}

The environment of ranks replaces ours by starting the interpreter again, because PYTHONPATH and the
locale act at its start; it comes by standard input because a command line can be read by anyone.
Every call has a thread of its own: a file system that hangs must not hide all the rest. The end of
the input ends everything.
"""

import json
import os
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, is_dataclass
from importlib import import_module
from io import FileIO
from typing import Any

from launch.doctor import traces
from launch.doctor.plan import Asked, Plan

MARK = "textmill-doctor "
CHECKS = "launch.doctor.checks"
HANDED = "TEXTMILL_DOCTOR_OPENING"  # environment variable: the first line, for the successor
MODULE = "launch.doctor.probe"
writing = threading.Lock()


def main() -> None:
    """Answer until the input ends."""
    source = FileIO(0, closefd=False)  # unbuffered: what follows the first line is the successor's
    opening = json.loads(os.environ.pop(HANDED, "") or source.readline())
    with suppress(OSError):  # told as a finding
        os.chdir(opening["folder"])
    wanted = opening["environment"]
    if any(os.environ.get(name) != value for name, value in wanted.items()):
        hand_over({**os.environ, **wanted}, opening)
    asked = Asked(opening["host"], Plan.of_json(opening["plan"]))
    say({"id": 0, "answer": {"python": sys.executable, "pid": os.getpid()}})
    while line := source.readline():
        request = json.loads(line)
        threading.Thread(target=respond, args=(request, asked), daemon=True).start()
    traces.remove_all()
    os._exit(0)  # whatever still hangs


def hand_over(environment: dict[str, str], opening: dict[str, Any]) -> None:
    """Become the same program under another environment; does not return."""
    told = {HANDED: json.dumps({**opening, "environment": {}})}
    os.execve(sys.executable, [sys.executable, "-m", MODULE], environment | told)


def respond(request: dict[str, Any], asked: Asked) -> None:
    """Answer one request."""
    try:
        answer = function_of(request["check"], request["call"])(asked, **request["arguments"])
        found = asdict(answer) if is_dataclass(answer) and not isinstance(answer, type) else answer
        say({"id": request["id"], "answer": found})
    except Exception as error:  # goes to the doctor, which tells it
        say({"id": request["id"], "error": f"{type(error).__name__}: {error}"})


def function_of(check: str, call: str) -> Callable[..., Any]:
    """A function of a check. Raises ImportError or AttributeError where versions differ."""
    if not (check.isidentifier() and call.isidentifier()):
        raise ValueError(f"{check}.{call} is not a function of a check")
    found: Callable[..., Any] = getattr(import_module(f"{CHECKS}.{check}"), call)
    return found


def say(value: dict[str, Any]) -> None:
    with writing:
        os.write(1, f"{MARK}{json.dumps(value)}\n".encode())


if __name__ == "__main__":
    main()
