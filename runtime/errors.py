"""The errors a user can meet, and the exit code each one ends the process with.

Every command runs inside `run_command`, which prints one clear message for an expected error and
keeps the traceback for our own bugs. Exit codes are part of the interface: launchers and batch
scripts act on them.
"""

import errno
import os
import sys
from collections.abc import Callable
from contextlib import suppress

from runtime.redaction import redacted

DONE = 0
RESUME_ME = 75


class TextmillError(Exception):
    """An error whose message says what is wrong, what was given and what to do."""

    exit_code = 1


class RecipeError(TextmillError):
    """The recipe, an override or a combination of them cannot work."""

    exit_code = 2


class Unready(TextmillError):
    """The machines are not ready for a run; each fault has been printed with its fix."""

    exit_code = 2


class DataError(TextmillError):
    """An input or a stored file is missing, unreadable, damaged or of the wrong kind."""

    exit_code = 3


class NumericError(TextmillError):
    """The loss is not finite and skipping steps did not help."""

    exit_code = 4


class LostRankError(TextmillError):
    """A rank hangs or is gone."""

    exit_code = 5


class OutOfMemory(TextmillError):
    """The host or the device has no memory left."""

    exit_code = 6


class DiskError(TextmillError):
    """The disk is full or broken, or a write was refused."""

    exit_code = 7


class BusyError(TextmillError):
    """Another job uses the folder."""

    exit_code = 8


class StopRequested(TextmillError):
    """Stopped on request after saving: run the same command again to continue."""

    exit_code = RESUME_ME


def run_command(command: Callable[[], None]) -> int:
    """Run a command and return its exit code; expected errors become one message on stderr.

    Anything unexpected is re-raised, so that our own bugs keep their traceback.
    """
    try:
        command()
    except TextmillError as error:
        return report(error)
    except KeyboardInterrupt:
        print("textmill: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # who reads the output has enough of it, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (OSError, MemoryError, RuntimeError) as error:
        expected = resource_error(error)
        if expected is None:
            raise
        return report(expected)
    return DONE


def report(error: TextmillError) -> int:
    """Print one error the way every command does and return its exit code."""
    text = redacted(f"textmill: {type(error).__name__}: {error}\n", os.environ)
    # One write: print would send the line's end apart, and several ranks share a terminal.
    with suppress(OSError):  # the exit code tells it where nothing can be written
        sys.stderr.write(text)
        sys.stderr.flush()
    return error.exit_code


def resource_error(error: Exception) -> TextmillError | None:
    """The failed disk or exhausted memory behind a system error, if it is one."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
        where = error.filename or "the output folder"
        return DiskError(
            f"{error.strerror}: {where}; free space there or set another `output`, "
            "then run the same command again"
        )
    if isinstance(error, OSError) and error.errno in (errno.EIO, errno.ESTALE):
        where = error.filename or "a file"
        return DiskError(
            f"{error.strerror}: {where}; the disk or the network behind it failed: see the "
            "system's log, then run the same command again"
        )
    words = str(error).lower()
    if isinstance(error, MemoryError) or "out of memory" in words or "t allocate memory" in words:
        return OutOfMemory(
            f"{str(error) or 'no memory left'}; lower train.micro_batch_size or launch.workers"
        )
    return None
