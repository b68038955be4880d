"""What the driver of a run and the agent on a host tell each other: lines of JSON.

The driver writes to the agent's standard input, the agent to its standard output, where a login
script may print before it; so a line of the agent begins with a mark. JSON is written in ASCII: the
encoding of neither machine matters.

    driver  {"do": "prepare", ...}   look around and say what is there
            {"do": "start", ...}     start ranks
            {"do": "stop"}           SIGTERM to all ranks: save and end
            {"do": "kill"}           SIGKILL
            {"do": "sweep", ...}     end what an agent that is gone has left
            {"do": "beat"}           still here
    agent   {"is": "ready", ...}     what it has found
            {"is": "started", ...}   a rank
            {"is": "output", ...}    lines of rank 0
            {"is": "ended", ...}     a rank: its code, its last lines
            {"is": "swept", ...}
            {"is": "note", ...}      for the log

Every message of an agent says `at`: seconds of its own clock.
"""

import json
import time
from typing import Any

MARK = "\x1etextmill "
Message = dict[str, Any]


def order(do: str, **facts: Any) -> bytes:
    """A line from the driver."""
    return (json.dumps({"do": do, **facts}) + "\n").encode("ascii")


def report(is_: str, **facts: Any) -> bytes:
    """A line from the agent."""
    message = {"is": is_, "at": time.monotonic(), **facts}
    return (MARK + json.dumps(message) + "\n").encode("ascii")


def reported(line: bytes) -> Message | None:
    """The message of an agent; None for a line that is none."""
    _, mark, text = line.decode("ascii", errors="replace").rpartition(MARK)
    if not mark:
        return None
    try:
        return dict(json.loads(text))
    except ValueError:
        return None
