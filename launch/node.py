"""`python -m launch.node`: the agent that starts and ends the ranks of one machine.

Started as a child or by ssh, told what to do on standard input (`launch/hosts/messages.py`), which
is also its lifeline: when that is closed, or silent for too long on a link that may have died, who
started it is gone. The ranks are then told to save and end, and ended if they do not. The agent
ends when no rank is left. It signals only processes that it has started itself, or that an agent
before it has started and the driver has noted with their time of birth. One thread.
"""

import json
import os
import selectors
import shlex
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from launch.hosts import leftovers, messages, surroundings
from launch.hosts.messages import Message
from launch.hosts.outgoing import Outgoing
from launch.hosts.rank_environment import environment_of
from launch.hosts.rank_process import RankProcess
from runtime.redaction import redactor

ORDERS = 0  # standard input
REPORTS = 1
CHUNK_BYTES = 1 << 16
TICK_SECONDS = 1.0
TOLD_TO_END = (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


class Agent:
    """The ranks of one machine, and the line to whoever wants them."""

    def __init__(self) -> None:
        self.ranks: list[RankProcess] = []
        self.is_lost = False  # whoever started this agent is gone
        self.kill_at: float | None = None  # on the monotonic clock
        self.silent_seconds: float | None = None  # after which the other side is taken for gone
        self.grace_seconds = 0.0  # for ranks to save when it is
        self.heard = time.monotonic()
        self.orders = b""  # the beginning of one
        self.host = ""
        self.outgoing = Outgoing(REPORTS)
        self.selector = selectors.PollSelector()

    def serve(self) -> None:
        """Do as told until nothing is left to do."""
        with self.woken_by_signals():
            self.selector.register(ORDERS, selectors.EVENT_READ, self.read_orders)
            while not self.is_over():
                self.outgoing.watch(self.selector)
                for key, _ in self.selector.select(TICK_SECONDS):
                    key.data()
                self.look_at_ranks()
                self.look_at_clock()
            self.outgoing.flush()

    def is_over(self) -> bool:
        return self.is_lost and all(rank.code is not None for rank in self.ranks)

    @contextmanager
    def woken_by_signals(self) -> Iterator[None]:
        """The end of a rank and signals for the agent come through a pipe."""
        reading, writing = os.pipe()
        for end in (reading, writing):
            os.set_blocking(end, False)
        signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the driver's
        for number in (signal.SIGCHLD, *TOLD_TO_END):
            signal.signal(number, lambda *_: None)
        self.selector.register(reading, selectors.EVENT_READ, partial(self.read_signals, reading))
        try:
            yield
        finally:
            signal.set_wakeup_fd(-1)

    def read_signals(self, reading: int) -> None:
        for number in os.read(reading, CHUNK_BYTES):
            if number in TOLD_TO_END:
                self.abandon(f"{signal.Signals(number).name} came to the agent")

    def read_orders(self) -> None:
        """Do what has come on standard input."""
        found = os.read(ORDERS, CHUNK_BYTES)
        self.heard = time.monotonic()
        if not found:
            self.selector.unregister(ORDERS)
            self.abandon("who started them is gone")
            return
        *lines, self.orders = (self.orders + found).split(b"\n")
        for line in lines:
            self.obey(json.loads(line))

    def obey(self, order: Message) -> None:
        do = order.pop("do")
        if do == "prepare":
            self.prepare(**order)
        elif do == "start":
            self.start(**order)
        elif do == "stop":
            self.stop()
        elif do == "kill":
            self.kill()
        elif do == "sweep":
            self.tell("swept", **leftovers.end(**order))

    def tell(self, is_: str, **facts: Any) -> None:
        self.outgoing.put(messages.report(is_, **facts), is_needed=is_ != "output")

    def prepare(
        self, host: str, silent_seconds: float | None, grace_seconds: float, **wanted: Any
    ) -> None:
        self.host, self.silent_seconds, self.grace_seconds = host, silent_seconds, grace_seconds
        self.tell("ready", **surroundings.look(**wanted))

    def start(
        self, program: list[str], identities: list[dict[str, str]], logs: str, **given: Any
    ) -> None:
        """Start the ranks; one that cannot be started has ended."""
        Path(logs).mkdir(parents=True, exist_ok=True)
        line = [sys.executable, *program]
        for identity in identities:
            number = int(identity["RANK"])
            environment = environment_of(identity, len(identities), **given)
            hide = redactor({os.fsdecode(k): os.fsdecode(v) for k, v in environment.items()})
            log = Path(logs) / f"rank-{number}.log"
            try:
                rank = RankProcess(number, line, environment, log, hide)
            except OSError as error:
                words = [f"textmill: cannot be started: {error.strerror}"]
                self.tell("ended", rank=number, code=1, lines=words)
                continue
            stamp = time.strftime("%Y-%m-%d %H:%M:%S")
            rank.write(
                f"--- {stamp} rank {number} on {self.host}, pid {rank.pid}: "
                f"{hide(shlex.join(line))}\n"
            )
            self.ranks.append(rank)
            self.selector.register(rank.output, selectors.EVENT_READ, partial(self.read, rank))
            self.tell("started", rank=number, **leftovers.noted(rank.pid))

    def read(self, rank: RankProcess) -> None:
        received = rank.receive()
        if received is None:
            return
        if not received:  # closed by the rank, which may run on
            self.selector.unregister(rank.output)
        self.pass_on(rank, rank.lines_of(received, is_all=not received))

    def pass_on(self, rank: RankProcess, lines: list[str]) -> None:
        """Rank 0 is shown where the run was started."""
        if rank.log_error is not None:
            self.tell("note", text=f"{rank.log_error}; the run goes on")
            rank.log_error = None
        if rank.rank == 0 and lines:
            self.tell("output", lines=lines)

    def look_at_ranks(self) -> None:
        """Tell which ranks have ended."""
        for rank in self.ranks:
            if rank.code is not None or (lines := rank.poll()) is None:
                continue
            if rank.output in self.selector.get_map():
                self.selector.unregister(rank.output)
            rank.close()
            self.pass_on(rank, lines)
            self.tell("ended", rank=rank.rank, code=rank.code, lines=list(rank.last_lines))

    def look_at_clock(self) -> None:
        now = time.monotonic()
        if self.kill_at is not None and now > self.kill_at:
            self.kill()
        if self.silent_seconds is not None and now - self.heard > self.silent_seconds:
            self.abandon(f"nothing was heard of who started them for {self.silent_seconds:.0f} s")

    def abandon(self, why: str) -> None:
        """Have the ranks save and end, and end them if they do not."""
        if self.is_lost:
            return
        self.is_lost = True
        for rank in self.ranks:
            if rank.code is None:
                rank.write(f"textmill: {why}; the ranks save and stop\n")
        self.stop()
        self.kill_at = time.monotonic() + self.grace_seconds

    def stop(self) -> None:
        for rank in self.ranks:
            rank.terminate()

    def kill(self) -> None:
        for rank in self.ranks:
            rank.kill()


def main() -> None:
    Agent().serve()


if __name__ == "__main__":
    main()
