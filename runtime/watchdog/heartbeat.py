"""The heartbeat thread: wakes about once a second, and at once for messages.

One thread does all of a rank's part in the watchdog, so that nothing in it needs a lock; the main
thread hands over what it has to say and wakes it.
"""

import logging
import queue
import selectors
import socket
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from secrets import compare_digest
from typing import Any, Protocol

from runtime.watchdog.channel import Channel
from runtime.watchdog.coordinator import Coordinator, Peer
from runtime.watchdog.follower import Follower
from runtime.watchdog.launcher import Parent
from runtime.watchdog.setting import Failure

CLOSE_SECONDS = 10.0
log = logging.getLogger("textmill")


class Side(Protocol):
    """What Coordinator and Follower share."""

    def tick(self, elapsed: float) -> None: ...

    def broke(self, message: str) -> None: ...

    def leave(self, failure: Failure | None) -> None: ...


class Heartbeat:
    """The thread and what it waits for."""

    def __init__(self, side: Side, interval: float, parent: Parent | None) -> None:
        self.side = side
        self.interval = interval
        self.parent = parent
        self.selector = selectors.DefaultSelector()
        self.orders: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self.woken, self.waker = socket.socketpair()
        self.listen_to(self.woken, self.obey)
        self.is_over = False
        if parent is not None and parent.handle is not None:
            self.listen_to(parent.handle, self.parent_ended)
        self.thread = threading.Thread(target=self.run, name="heartbeat", daemon=True)

    def listen_to(self, source: socket.socket | int, react: Callable[[], None]) -> None:
        self.selector.register(source, selectors.EVENT_READ, react)

    def forget(self, source: socket.socket | int) -> None:
        self.selector.unregister(source)

    def run(self) -> None:
        """Until it is told to leave. A fault of our own ends the watch, never the run."""
        try:
            before = time.monotonic()
            while True:
                due = before + self.interval
                for key, _ in self.selector.select(max(0.0, due - time.monotonic())):
                    key.data()
                    if self.is_over:  # every connection is closed, also those that were ready
                        return
                if (now := time.monotonic()) >= due:
                    # A machine that slept, or a rank that was stopped, blames nobody for it.
                    self.side.tick(min(now - before, 2 * self.interval))
                    if self.parent is not None:
                        self.parent.tick()
                    before = now
        except Exception:
            log.exception("the watchdog of this rank has failed: it is no longer watched")
            with suppress(Exception):
                self.side.leave(None)
        finally:
            self.close_files()

    def order(self, what: Callable[[], None]) -> None:
        """Have the thread do something at once. Any thread may call it."""
        self.orders.put(what)
        self.waker.send(b"!")

    def obey(self) -> None:
        self.woken.recv(1)
        self.orders.get()()

    def parent_ended(self) -> None:
        """The parent's handle is ready: it has ended."""
        assert self.parent is not None
        assert self.parent.handle is not None
        self.forget(self.parent.handle)
        self.parent.close()
        self.parent.tick()

    def leave(self, failure: Failure | None) -> None:
        """Say goodbye and end the thread; nothing stays open. The main thread calls it."""

        def last() -> None:
            self.is_over = True
            self.side.leave(failure)

        if self.thread.is_alive():
            self.order(last)
            self.thread.join(CLOSE_SECONDS)
        self.waker.close()

    def close_files(self) -> None:
        for key in list(self.selector.get_map().values()):
            if isinstance(key.fileobj, socket.socket):
                key.fileobj.close()
        self.selector.close()
        if self.parent is not None:
            self.parent.close()


def follow(heartbeat: Heartbeat, side: Follower) -> None:
    """Wait for what rank 0 says."""

    def react() -> None:
        side.receive()
        if not side.channel.is_open:
            heartbeat.forget(side.channel.socket)

    heartbeat.listen_to(side.channel.socket, react)


def accept(heartbeat: Heartbeat, side: Coordinator, listener: socket.socket, token: str) -> None:
    """Wait for the other ranks, and for what they say; whoever does not know the token is sent
    away. The port is closed when all have come."""

    def accept_one() -> None:
        channel = Channel(listener.accept()[0])
        heartbeat.listen_to(channel.socket, lambda: welcome(channel))

    def welcome(channel: Channel) -> None:
        try:
            messages = channel.receive()
            if not messages and channel.is_open:
                return
            peer = side.join(rank_of(messages[0], token), channel)
        except (ValueError, KeyError, TypeError, IndexError):  # none of ours
            heartbeat.forget(channel.socket)
            channel.close()
            return
        heartbeat.forget(channel.socket)
        heartbeat.listen_to(channel.socket, lambda: hear(peer, []))
        hear(peer, messages[1:])
        if side.is_complete:
            heartbeat.forget(listener)
            listener.close()

    def hear(peer: Peer, before: Sequence[dict[str, Any]]) -> None:
        side.receive(peer, before)
        if not peer.channel.is_open:
            heartbeat.forget(peer.channel.socket)

    heartbeat.listen_to(listener, accept_one)


def rank_of(message: dict[str, Any], token: str) -> int:
    """The rank that has connected. Raises ValueError if it is none of ours."""
    if not compare_digest(message["token"], token):
        raise ValueError("a stranger")
    return int(message["rank"])
