"""Watch a run: start the heartbeats of all ranks, and end them with the work that is watched.

Rank 0 listens on a port of its own, whose number and a secret token reach the others through the
process group. An error of one rank alone, or a collective that breaks, is told to the watchdog,
which knows better than a traceback of torch what has happened and ends the run.
"""

import errno
import logging
import os
import resource
import secrets
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runtime import bus_errors, errors
from runtime.config import Watchdog
from runtime.errors import LostRankError, StopRequested, TextmillError
from runtime.watchdog import channel, conduct, heartbeat
from runtime.watchdog.activity import activity
from runtime.watchdog.channel import Channel
from runtime.watchdog.coordinator import Coordinator
from runtime.watchdog.ending import Ending
from runtime.watchdog.follower import Follower
from runtime.watchdog.heartbeat import Heartbeat
from runtime.watchdog.launcher import Parent
from runtime.watchdog.report import Member
from runtime.watchdog.setting import BROKEN_SECONDS, Failure, Setting
from runtime.watchdog.stacks import Stacks
from runtime.watchdog.stall import OwnReport

CONNECT_SECONDS = 20.0
RANKS_A_SECOND = 256  # that rank 0 hears; beats of more ranks come less often
BEATS = 10  # at least, within the limit
VERDICT_SECONDS = 3 * BROKEN_SECONDS  # that the main thread waits to be ended
HOST_NAMES = ("TEXTMILL_HOST", "SLURMD_NODENAME")  # variables: as the host file or cluster calls it
log = logging.getLogger("textmill")


@dataclass(frozen=True)
class Ranks:
    """What the watchdog needs of the process group, to begin with."""

    rank: int
    world_size: int
    gather: Callable[[Any], list[Any]]
    from_rank_0: Callable[[Any], Any]
    is_broken: Callable[[BaseException], bool]  # a collective failed because of another rank


@contextmanager
def watched(table: Watchdog, ranks: Ranks, folder: Path, is_launched: bool) -> Iterator[None]:
    """Watch what the main thread does inside. All ranks enter it; stacks go to `folder`.

    Raises LostRankError for a collective that broke, if the watchdog does not end the process.
    """
    watch = start(table, ranks, folder, is_launched) if table.enabled else None
    if watch is not None:
        bus_errors.told.append(watch.fell)
    failure = None
    try:
        yield
    except BaseException as error:
        if ranks.is_broken(error):
            if watch is not None:
                watch.broke(first_line(error))
            failure = Failure("LostRankError", first_line(error), LostRankError.exit_code)
            raise LostRankError(
                f"communication with the other ranks broke ({first_line(error)}); run again"
            ) from error
        failure = failure_of(error)
        raise
    finally:
        bus_errors.told.clear()
        if watch is not None:
            watch.leave(failure)


@dataclass(frozen=True)
class Watch:
    """The watchdog of this rank, as the main thread sees it."""

    heartbeat: Heartbeat
    stacks: Stacks

    def broke(self, message: str) -> None:
        """A collective broke: wait for the verdict, which ends this process."""
        if self.heartbeat.thread.is_alive():
            self.heartbeat.order(lambda: self.heartbeat.side.broke(message))
            self.heartbeat.thread.join(VERDICT_SECONDS)

    def fell(self, error: TextmillError) -> None:
        """The process ends now, by this error: the others are to hear it."""
        self.heartbeat.leave(failure_of(error))

    def leave(self, failure: Failure | None) -> None:
        self.heartbeat.leave(failure)
        self.stacks.close()


def start(table: Watchdog, ranks: Ranks, folder: Path, is_launched: bool) -> Watch:
    """Start the heartbeat of this rank. All ranks call it."""
    folder.mkdir(parents=True, exist_ok=True)
    members = [Member(*facts) for facts in ranks.gather(facts_of_this_process(ranks.rank))]
    me = members[ranks.rank]
    stacks = Stacks(folder, me.rank)
    interval = interval_of(table, ranks.world_size)
    ending = Ending(members, me, stacks, folder, interval)
    own = OwnReport(activity, me.pid)
    setting = Setting(table, members, me, interval, own, ending)
    parent = Parent(folder / f"orphan-rank-{me.rank}.log") if is_launched else None
    beat = joined(setting, ranks, parent) if ranks.world_size > 1 else None
    if beat is None:  # it watches itself
        beat = Heartbeat(Coordinator(setting), interval, parent)
        beat.thread.start()
    return Watch(beat, stacks)


def interval_of(table: Watchdog, world_size: int) -> float:
    """Seconds between the beats of a rank."""
    return min(1.0, table.min_seconds / BEATS) * max(1.0, world_size / RANKS_A_SECOND)


def joined(setting: Setting, ranks: Ranks, parent: Parent | None) -> Heartbeat | None:
    """The heartbeat of one of several ranks; None if rank 0 cannot be reached. All ranks call
    it."""
    is_first = setting.me.rank == 0
    beat = leading(setting, ranks, parent) if is_first else following(setting, ranks, parent)
    reached = ranks.gather(beat is not None)
    if is_first and not all(reached):
        missing = [str(member) for member in setting.members if not reached[member.rank]]
        log.warning(
            "not watched, because no connection to rank 0 can be made: %s", ", ".join(missing)
        )
    return beat


def facts_of_this_process(rank: int) -> tuple[int, str, str, int, int]:
    """The fields of its Member."""
    spaces = [os.readlink(f"/proc/self/ns/{name}") for name in ("pid", "net")]
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    machine = "/".join([socket.gethostname(), boot, *spaces])
    host = next((os.environ[name] for name in HOST_NAMES if name in os.environ), None)
    pid = os.getpid()
    return rank, host or socket.gethostname(), machine, pid, conduct.began(pid)


def leading(setting: Setting, ranks: Ranks, parent: Parent | None) -> Heartbeat:
    """The heartbeat of rank 0, which the others connect to."""
    make_room_for_files(ranks.world_size)
    is_one_machine = len({member.machine for member in setting.members}) == 1
    listener = channel.listen("127.0.0.1" if is_one_machine else "", ranks.world_size)
    token = secrets.token_hex(16)
    side = Coordinator(setting)
    beat = Heartbeat(side, setting.interval, parent)
    heartbeat.accept(beat, side, listener, token)
    beat.thread.start()
    address = "127.0.0.1" if is_one_machine else os.environ["MASTER_ADDR"]
    ranks.from_rank_0((address, listener.getsockname()[1], token))
    return beat


def following(setting: Setting, ranks: Ranks, parent: Parent | None) -> Heartbeat | None:
    """The heartbeat of another rank; None if rank 0 cannot be reached."""
    address, port, token = ranks.from_rank_0(None)
    found = connect(address, port, CONNECT_SECONDS)
    if found is None:
        return None
    found.send({"token": token, "rank": setting.me.rank})
    side = Follower(setting, found)
    beat = Heartbeat(side, setting.interval, parent)
    heartbeat.follow(beat, side)
    beat.thread.start()
    return beat


def make_room_for_files(number: int) -> None:
    """Allow this process as many open connections more than it may have now, if that can be."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if 0 < soft < hard or hard == resource.RLIM_INFINITY != soft:
        wanted = soft + number
        limit = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))


def connect(address: str, port: int, seconds: float) -> Channel | None:
    """Connect, trying again while many ranks do so at once."""
    ends = time.monotonic() + seconds
    while (left := ends - time.monotonic()) > 0:
        try:
            return channel.connect(address, port, left)
        except OSError as error:
            if error.errno not in (errno.ECONNREFUSED, errno.EAGAIN, errno.ETIMEDOUT):
                break
            time.sleep(0.2)
    return None


def failure_of(error: BaseException) -> Failure | None:
    """What the other ranks are told of the error this one ends with; None: nothing is wrong."""
    if isinstance(error, StopRequested):
        return None
    if isinstance(error, (OSError, MemoryError, RuntimeError)):
        error = errors.resource_error(error) or error
    code = error.exit_code if isinstance(error, TextmillError) else 1
    if isinstance(error, SystemExit):
        if not error.code:
            return None
        code = error.code if isinstance(error.code, int) else 1
    return Failure(type(error).__name__, first_line(error), code)


def first_line(error: BaseException) -> str:
    return next(iter(str(error).splitlines()), "") or type(error).__name__
