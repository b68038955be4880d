"""Rank 0's watchdog hears 512 ranks: what it costs, how soon it names a lost rank.

    python benchmarks/scale_watchdog.py [--quick] [--ranks N]

The coordinator, its thread and the connections are those of a run, over the loopback interface. The
other ranks are real followers, all in one other process that ticks them in turn; rank 0 sees 8 on
each machine, they see no neighbours, whom one process could not look at for all of them. Three
things happen: for some time nothing; then most ranks fall silent for longer than
three beats and come back, which must blame nobody; then one connection closes without a word.
"""

import argparse
import multiprocessing
import os
import selectors
import threading
import time
from multiprocessing.synchronize import Event
from typing import Any

import cost
import record
from rich.console import Console
from rich.table import Table

from runtime.config import Watchdog
from runtime.watchdog import channel, heartbeat, watching
from runtime.watchdog.activity import Activity
from runtime.watchdog.channel import Channel
from runtime.watchdog.coordinator import Coordinator
from runtime.watchdog.follower import Follower
from runtime.watchdog.heartbeat import Heartbeat
from runtime.watchdog.report import Member
from runtime.watchdog.setting import QUIET_BEATS, Setting
from runtime.watchdog.stall import OwnReport
from runtime.watchdog.verdict import Verdict

RANKS, QUICK_RANKS = 512, 64
RANKS_A_NODE = 8
WATCHED_SECONDS, QUICK_SECONDS = 30.0, 5.0
SILENT_SHARE = 0.8  # of the ranks, which fall silent for a while
TOKEN = "token"
PATIENCE_SECONDS = 120.0  # for the whole of it to come to an end on a busy machine


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_RANKS} ranks")
    parser.add_argument("--ranks", type=int, default=RANKS)
    told = parser.parse_args()
    ranks, seconds = (QUICK_RANKS, QUICK_SECONDS) if told.quick else (told.ranks, WATCHED_SECONDS)
    found = measure(ranks, seconds)
    path = record.write("scale_watchdog", found, [cost.SHARED])
    table = Table("what", "value", title=f"{ranks} ranks")
    for name, value in found.items():
        table.add_row(name, f"{value:.4g}")
    Console().print(table)
    print(path)


def measure(num_ranks: int, seconds: float) -> dict[str, float]:
    """Costs of rank 0, and the seconds until a rank that went is named."""
    members = members_of(num_ranks, RANKS_A_NODE)
    interval = watching.interval_of(Watchdog(), num_ranks)
    verdicts: list[tuple[float, Verdict]] = []
    over = threading.Event()

    def end(found: Verdict) -> None:
        if not over.is_set():
            verdicts.append((time.monotonic(), found))
        over.set()

    own = OwnReport(Activity(), os.getpid())
    setting = Setting(Watchdog(), members, members[0], interval, own, end)
    watching.make_room_for_files(num_ranks)
    side = Coordinator(setting)
    beat = Heartbeat(side, interval, None)
    listener = channel.listen("127.0.0.1", num_ranks)
    heartbeat.accept(beat, side, listener, TOKEN)
    beat.thread.start()
    context = multiprocessing.get_context("spawn")
    silence, leave, blamed = context.Event(), context.Event(), context.Value("i", 0)
    port = listener.getsockname()[1]
    others = context.Process(
        target=follow,
        args=(members_of(num_ranks, 1), interval, port, silence, leave, blamed),
        daemon=True,
    )
    others.start()
    try:
        with cost.of("joined") as joined:
            wait(lambda: side.is_complete)
        with cost.of("watched") as watched:
            time.sleep(seconds)
        silence.set()
        time.sleep(2 * QUIET_BEATS * interval)
        most_silent = sum(peer.is_silent for peer in side.peers.values())
        silence.clear()
        wait(lambda: not any(peer.is_silent for peer in side.peers.values()) or over.is_set())
        assert not over.is_set(), f"a pause ended the run: {verdicts[0][1].cause}"
        assert blamed.value == 0, f"{blamed.value} ranks blamed rank 0 for a pause"
        began = time.monotonic()
        leave.set()
        assert over.wait(PATIENCE_SECONDS), "nobody noticed"
        at, found = verdicts[0]
        assert f"rank {num_ranks - 1} on " in found.cause, found.cause
    finally:
        beat.leave(None)
        others.terminate()
        others.join()
    return {
        "ranks": num_ranks,
        "beat_seconds": interval,
        "join_wall_s": joined.wall_s,
        "cpu_share_of_a_core": watched.cpu_s / watched.wall_s,
        "cpu_ms_a_beat_and_rank": 1e3 * watched.cpu_s / watched.wall_s * interval / num_ranks,
        "grown_mb": joined.grown_mb,
        "open_files": watched.open_files,
        "silent_at_once": most_silent,
        "seconds_to_name_a_lost_rank": at - began,
    }


def members_of(num_ranks: int, ranks_a_node: int) -> list[Member]:
    """Rank 0 of this process, the others on made-up machines."""
    return [
        Member(
            rank, f"node-{node:03d}", f"machine {node}", os.getpid() if rank == 0 else 1 << 30, 0
        )
        for rank in range(num_ranks)
        for node in [rank // ranks_a_node]
    ]


def wait(until: Any) -> None:
    """Raises TimeoutError if it never comes true."""
    ends = time.monotonic() + PATIENCE_SECONDS
    while not until():
        if time.monotonic() > ends:
            raise TimeoutError("the ranks took too long")
        time.sleep(0.02)


def follow(
    members: list[Member], interval: float, port: int, silence: Event, leave: Event, blamed: Any
) -> None:
    """All ranks but the first; they beat one after the other, spread over the interval."""

    def end(found: Verdict) -> None:
        blamed.value += 1

    watching.make_room_for_files(len(members))
    activity = Activity()
    selector = selectors.DefaultSelector()
    followers = []
    for member in members[1:]:
        connection = watching.connect("127.0.0.1", port, watching.CONNECT_SECONDS)
        assert isinstance(connection, Channel)
        connection.send({"token": TOKEN, "rank": member.rank})
        own = OwnReport(activity, os.getpid())
        side = Follower(Setting(Watchdog(), members, member, interval, own, end), connection)
        selector.register(connection.socket, selectors.EVENT_READ, side)
        followers.append(side)
    first_to_pause = round(len(followers) * (1 - SILENT_SHARE))
    gone = False
    while True:
        for number, side in enumerate(followers):
            activity.tick()
            if leave.is_set() and not gone:
                selector.unregister(followers[-1].channel.socket)
                followers.pop().channel.close()
                gone = True
            if not (silence.is_set() and number >= first_to_pause):
                side.tick(interval)
            for key, _ in selector.select(interval / len(followers)):
                if key.data.channel.is_open:
                    key.data.receive()
                else:
                    selector.unregister(key.fileobj)


if __name__ == "__main__":
    main()
