"""JSON lines over TCP, without ever waiting: the side channel of the watchdog.

It shares nothing with the collectives, which is why it still works when they hang. A line holds at
most 64 KiB; what a peer does not take is kept up to 1 MiB and then the connection is given up.
"""

import fcntl
import json
import select
import socket
import struct
import termios
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

LINE_BYTES = 1 << 16
KEPT_BYTES = 1 << 20


class Channel:
    """One connection; no method blocks, except `deliver`."""

    def __init__(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket = connection
        self.is_open = True
        self.received = b""
        self.unsent = b""

    def send(self, message: dict[str, Any]) -> None:
        """Queue a message and send what the peer takes."""
        self.unsent += json.dumps(message).encode() + b"\n"
        if len(self.unsent) > KEPT_BYTES:
            self.unsent = b""
            with suppress(OSError):
                self.socket.shutdown(socket.SHUT_RDWR)  # `receive` finds it closed
        self.flush()

    def flush(self) -> None:
        while self.unsent and self.is_open:
            try:
                sent = self.socket.send(self.unsent)
            except BlockingIOError:
                return
            except OSError:
                self.is_open = False  # `receive` still gives what came before
                return
            self.unsent = self.unsent[sent:]

    def deliver(self, message: dict[str, Any], seconds: float) -> None:
        """Send a last message and wait until the peer's machine has it, or for some time."""
        self.send(message)
        if not self.is_open:
            return
        try:
            self.socket.settimeout(seconds)
            self.socket.sendall(self.unsent)
            self.unsent = b""
        except OSError:
            self.is_open = False

    def receive(self) -> list[dict[str, Any]]:
        """The messages that have come. Raises ValueError if the peer speaks something else."""
        while True:
            try:
                block = self.socket.recv(LINE_BYTES)
            except BlockingIOError:
                break
            except OSError:
                block = b""
            if not block:
                self.is_open = False
                break
            self.received += block
        *lines, self.received = self.received.split(b"\n")
        if len(self.received) > LINE_BYTES:
            raise ValueError("an endless line")
        found = [json.loads(line) for line in lines]
        if not all(isinstance(message, dict) for message in found):
            raise ValueError("no message")
        return found

    def is_unacknowledged(self) -> bool:
        """True if the peer's machine has not confirmed what was sent: it does so for a process that
        is stopped too."""
        try:
            answer = fcntl.ioctl(self.socket, termios.TIOCOUTQ, struct.pack("i", 0))
        except OSError:
            return True
        return bool(struct.unpack("i", answer)[0])

    def close(self) -> None:
        self.is_open = False
        self.socket.close()


def listen(address: str, backlog: int) -> socket.socket:
    """A listening socket on any free port; "" is all addresses of this machine."""
    if address or not socket.has_dualstack_ipv6():
        return socket.create_server((address, 0), backlog=backlog)
    return socket.create_server(
        ("", 0), family=socket.AF_INET6, backlog=backlog, dualstack_ipv6=True
    )


def connect(address: str, port: int, seconds: float) -> Channel:
    """A connection to a listening rank. Raises OSError."""
    return Channel(socket.create_connection((address, port), timeout=seconds))


def farewell(channels: Sequence[Channel], seconds: float) -> None:
    """Close connections after a last message, once the other ends have: a connection closed with
    something unread is reset, and what was sent might not be read."""
    waiting = [channel for channel in channels if channel.is_open]
    for channel in waiting:
        with suppress(OSError):
            channel.socket.shutdown(socket.SHUT_WR)
    ends = time.monotonic() + seconds
    while waiting and (left := ends - time.monotonic()) > 0:
        poll = select.poll()
        for channel in waiting:
            poll.register(channel.socket, select.POLLIN)
        ready = {number for number, _ in poll.poll(left * 1000)}
        for channel in waiting:
            if channel.socket.fileno() in ready:
                with suppress(ValueError):
                    channel.receive()
        waiting = [channel for channel in waiting if channel.is_open]
    for channel in channels:
        channel.close()
