"""Stop on request: a signal sets a flag, and the run saves and ends where its ranks agree on it.

Imports nothing heavy: install the handlers before importing torch, because a signal that arrives
during that import would otherwise end the process (SLURM sends one to every rank at once). A second
signal changes nothing: a checkpoint being written is finished. A SIGHUP that is ignored, as under
nohup, stays so. SIGKILL cannot be caught, and checkpoints survive it by their own protocol.
"""

import os
import signal
import sys
from contextlib import suppress
from types import FrameType

STOP_SIGNALS = (
    *(signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2),
    *(signal.SIGINT, signal.SIGHUP),
)

_received: list[signal.Signals] = []  # a handler can only reach a global


def install() -> None:
    """Catch the stop signals from now on. Main thread only; safe to call twice."""
    for number in STOP_SIGNALS:
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, remember)


def remember(number: int, frame: FrameType | None) -> None:
    """The handler: note the signal, say so once."""
    _received.append(signal.Signals(number))
    if len(_received) == 1:
        # Not print: the signal may have come in the middle of one.
        note = f"textmill: {signal_name()} received, stopping as soon as all is saved\n"
        with suppress(OSError):  # nobody reads it any more
            os.write(sys.__stderr__.fileno() if sys.__stderr__ else 2, note.encode())


def stop_requested() -> bool:
    """True once a stop signal came to this process; ranks must agree before acting on it."""
    return bool(_received)


def signal_name() -> str | None:
    """Name of the first stop signal that came, for the log."""
    return _received[0].name if _received else None
