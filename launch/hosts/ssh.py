"""The command that runs a program of ours on another machine.

`ssh` is the first one in PATH and reads ~/.ssh/config: user, port, key, jump hosts belong there. It
never asks (BatchMode), does not wait for a host that is not there, notices a link that has died,
and has a connection of its own (a shared one may outlive us and holds our pipes open).
"""

import os
import shlex
import sys
from collections.abc import Mapping, Sequence

CONNECT_SECONDS = 10
ALIVE_SECONDS = 5  # between questions whether the other side still answers
ALIVE_QUESTIONS = 3  # without an answer, after which the link is dead
OPTIONS = {
    "BatchMode": "yes",
    "ConnectTimeout": CONNECT_SECONDS,
    "ServerAliveInterval": ALIVE_SECONDS,
    "ServerAliveCountMax": ALIVE_QUESTIONS,
    "ControlMaster": "no",
    "ControlPath": "none",
}


def command(host: str, script: str) -> list[str]:
    """Run a line of shell on a host of a hostfile."""
    options = [word for name, value in OPTIONS.items() for word in ("-o", f"{name}={value}")]
    return ["ssh", "-T", *options, "--", host, script]


def module(
    host: str, name: str, folder: str, environment: Mapping[str, str] = os.environ
) -> list[str]:
    """`python -m NAME` on a host, in the same folder, by the interpreter that runs here."""
    program: Sequence[str] = (sys.executable, "-u", "-m", name)
    if path := environment.get("PYTHONPATH"):  # no secret: it may be seen by all there
        program = ("env", f"PYTHONPATH={path}", *program)
    return command(host, f"cd {shlex.quote(folder)} && exec {shlex.join(program)}")
