"""Run a program as ranks on one machine or many, and see it to its end.

One agent (`launch/node.py`) on each machine starts that machine's ranks and tells what becomes of
them. The driver brings the agents up, agrees with them where the ranks meet, starts all, passes
stop requests on, and when a rank fails gives the others time to end by themselves before it has
them ended. Whatever happens to an agent or to the link, no rank is left behind: an agent whose
driver is silent ends its ranks, the kernel tells ranks whose agent has died, and the driver looks
after what a lost agent has left, as soon as the machine answers.
"""

import json
import os
import secrets
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, Self

from launch.hosts import meeting
from launch.hosts.connection import Connection, Event, Events
from launch.hosts.messages import Message
from launch.hosts.nodes import Node, identity
from launch.hosts.noise import is_noise
from launch.hosts.verdict import End, Loss, Verdict, verdict
from runtime.errors import RESUME_ME, LostRankError

OPEN_SECONDS = 60.0  # for all agents: ssh, and Python from a file system that is cold
BEAT_SECONDS = 5.0
SILENT_SECONDS = 60.0  # after which an agent on another machine takes its driver for gone
GRACE_SECONDS = 300.0  # for ranks to save when nobody follows them any more
FAILED_SECONDS = 30.0  # for other ranks to end by themselves after one has failed
LAST_SECONDS = 10.0  # for them to end after a signal
POLL_SECONDS = 0.5
SHOWN_LINES = 20  # of a failed rank
STOP, KILL = "stop", "kill"


@dataclass(frozen=True)
class Wanted:
    """A program, the machines it runs on, and what its ranks get."""

    nodes: tuple[Node, ...]
    program: tuple[str, ...]  # after the interpreter
    logs: Path  # folder of `rank-N.log`, which all machines share
    cache: Path  # for DeepSpeed's builds
    environment: dict[str, str] = field(default_factory=dict)  # sent to every rank
    threads: int | None = None  # CPU threads of a rank; None: a machine's cores by its ranks

    def to_json(self) -> str:
        return json.dumps(asdict(self), default=str)

    @classmethod
    def of_json(cls, text: str) -> Self:
        found = json.loads(text)
        given = [node | {"devices": tuple(node["devices"])} for node in found.pop("nodes")]
        return cls(
            nodes=tuple(Node(**node) for node in given),
            program=tuple(found.pop("program")),
            logs=Path(found.pop("logs")),
            cache=Path(found.pop("cache")),
            **found,
        )


@dataclass(frozen=True)
class Listener:
    """Who hears of a run as it goes."""

    show: Callable[[str], None]  # a line for the console and the log
    note: Callable[[str], None]  # a line for the log alone


class Driver:
    """One start of the ranks. `stop` and `kill` may be called from a signal handler."""

    def __init__(self, wanted: Wanted, listener: Listener) -> None:
        self.wanted = wanted
        self.listener = listener
        self.events: Events = SimpleQueue()
        self.connections: list[Connection] = []
        self.ready: dict[int, Message] = {}  # by number of the node
        self.ends: dict[int, End] = {}  # by rank
        self.losses: list[Loss] = []
        self.asked: set[str] = set()  # STOP, KILL
        self.is_started = False
        self.stop_at: float | None = None  # on the monotonic clock
        self.kill_at: float | None = None
        self.beat_at = 0.0

    def stop(self) -> None:
        """Have all ranks save and end."""
        self.events.put(STOP)

    def kill(self) -> None:
        """End all ranks at once."""
        self.events.put(KILL)

    def run(self) -> Verdict:
        """Raises RecipeError if the machines do not share the folder or cannot meet."""
        try:
            with self.shared_file() as shared:
                self.open(shared)
                if not self.wait_until(self.is_ready, time.monotonic() + OPEN_SECONDS):
                    found = self.not_started()
                    self.close()  # while the file is there: agents wait for it
                    return found
            self.start()
            self.wait_until(self.is_over, None)
        finally:
            self.close()
        self.sweep()
        found = verdict(list(self.ends.values()), self.losses)
        self.explain(found)
        return found

    @contextmanager
    def shared_file(self) -> Iterator[Path]:
        """A file that every machine must see while it is there."""
        self.wanted.logs.mkdir(parents=True, exist_ok=True)
        path = self.wanted.logs.absolute() / f".shared-{secrets.token_hex(8)}"
        path.touch()
        try:
            yield path
        finally:
            path.unlink(missing_ok=True)

    def open(self, shared: Path) -> None:
        """Start an agent on every machine and ask what is there."""
        nodes = self.wanted.nodes
        for number, node in enumerate(nodes):
            is_remote = node.host is not None
            connection = Connection(number, node, os.getcwd(), self.events)
            self.connections.append(connection)
            connection.tell(
                "prepare",
                host=meeting.name_of(node),
                silent_seconds=SILENT_SECONDS if is_remote else None,
                grace_seconds=GRACE_SECONDS,
                first=nodes[0].host if is_remote and number > 0 else None,
                shared=str(shared) if is_remote else None,
            )

    def wait_until(self, done: Callable[[], bool], deadline: float | None) -> bool:
        """Take what comes until then; False if the time is over or there is nothing to wait for."""
        while not done():
            now = time.monotonic()
            if deadline is not None and now > deadline:
                return False
            if not self.is_started and (self.losses or self.asked):
                return False
            self.look_at_clock(now)
            with suppress(Empty):
                self.take(self.events.get(timeout=POLL_SECONDS))
        return True

    def take(self, event: Event | str) -> None:
        if isinstance(event, str):
            self.asked.add(event)
            self.tell_all(event)
        elif event.message is None:
            self.lose(event)
        else:
            self.hear(event, event.message)

    def hear(self, event: Event, message: Message) -> None:
        """What an agent has to say."""
        source, host = event.source, meeting.name_of(event.source.node)
        at = source.when(event)
        is_ = message["is"]
        if is_ == "ready":
            self.ready[source.number] = message
            source.processes.append(message)
        elif is_ == "started":
            source.processes.append(message)
            self.listener.note(f"rank {message['rank']} on {host}: pid {message['pid']}")
        elif is_ == "output":
            for line in message["lines"]:
                self.listener.show(line)
        elif is_ == "note":
            self.listener.show(f"textmill: {host}: {message['text']}")
        elif is_ == "ended":
            end = End(message["rank"], host, message["code"], at, message["lines"])
            self.ends[end.rank] = end
            self.listener.note(f"rank {end.rank} on {host}: ended with {end.code}")
            if STOP in self.asked and end.code == -signal.SIGTERM:
                self.tell_all(KILL)  # it came before there was anything to save
            elif end.is_failure:
                self.fail(FAILED_SECONDS)

    def lose(self, event: Event) -> None:
        """The end of an agent, which is right only after that of its ranks."""
        source = event.source
        source.is_over = True
        left = [rank for rank in source.node.ranks if rank not in self.ends]
        if not left:
            return
        how = source.end_in_words()
        self.losses.append(Loss(meeting.name_of(source.node), left, event.received, how))
        self.listener.note(f"{meeting.name_of(source.node)}: {how}")
        self.tell_all(STOP)  # those of the lost agent do the same, and all save together
        self.fail(GRACE_SECONDS)

    def fail(self, seconds: float) -> None:
        """After the first failure: time for the others, then an end of it."""
        if self.stop_at is None:
            self.stop_at = time.monotonic() + seconds
            self.kill_at = self.stop_at + LAST_SECONDS

    def look_at_clock(self, now: float) -> None:
        if now > self.beat_at:
            self.beat_at = now + BEAT_SECONDS
            self.tell_all("beat")
        if self.stop_at is not None and now > self.stop_at:
            self.stop_at = float("inf")
            self.tell_all(STOP)
        if self.kill_at is not None and now > self.kill_at:
            self.kill_at = float("inf")
            self.tell_all(KILL)

    def tell_all(self, do: str, **facts: Any) -> None:
        for connection in self.connections:
            if not connection.is_over:
                connection.tell(do, **facts)

    def is_ready(self) -> bool:
        return len(self.ready) == len(self.wanted.nodes)

    def is_over(self) -> bool:
        """True once nobody is left who could tell of a rank."""
        return all(
            connection.is_over or all(rank in self.ends for rank in connection.node.ranks)
            for connection in self.connections
        )

    def start(self) -> None:
        """Start all ranks."""
        nodes, wanted = self.wanted.nodes, self.wanted
        address = meeting.address(nodes, self.ready, wanted.environment)
        port = self.ready[0]["port"]
        self.is_started = True
        for connection, node in zip(self.connections, nodes, strict=True):
            connection.tell(
                "start",
                program=list(wanted.program),
                identities=[
                    identity(nodes, connection.number, rank, address, port) for rank in node.ranks
                ],
                logs=str(wanted.logs.absolute()),
                cache=str(wanted.cache.absolute()),
                threads=wanted.threads,
                sent=wanted.environment,
                other_address=address if len(nodes) > 1 else None,
            )

    def not_started(self) -> Verdict:
        """Say which agents are not there, and why."""
        if self.asked:
            return Verdict(RESUME_ME)
        late = f"its agent did not answer within {OPEN_SECONDS:.0f} s"
        for connection in self.connections:
            if connection.is_over or (not self.losses and connection.number not in self.ready):
                name = meeting.name_of(connection.node)
                why = connection.end_in_words() if connection.is_over else late
                self.listener.show(f"textmill: no rank can be started on {name}: {why}")
        if any(connection.node.host is not None for connection in self.connections):
            self.listener.show("textmill: `textmill doctor --hostfile FILE` says what to do")
        return Verdict(LostRankError.exit_code)

    def close(self) -> None:
        """Let all agents go."""
        for connection in self.connections:
            connection.outgoing.put(None)
        for connection in self.connections:
            connection.close()

    def sweep(self) -> None:
        """Look after what lost agents may have left, on those machines that answer."""
        lost = [c for c in self.connections if any(r not in self.ends for r in c.node.ranks)]
        for connection in lost if self.is_started else []:
            host = meeting.name_of(connection.node)
            grace = 0.0 if KILL in self.asked else GRACE_SECONDS
            found = swept(connection, grace)
            if found is None:
                self.listener.show(
                    f"textmill: {host} does not answer: its agent ends its ranks by itself within "
                    f"{SILENT_SECONDS + GRACE_SECONDS:.0f} s, if it still runs"
                )
            elif found["ended"]:
                self.listener.show(
                    f"textmill: {host}: what its lost agent has left: {found['ended']} ended, "
                    f"{found['left']} still there"
                )

    def explain(self, found: Verdict) -> None:
        """The last lines of the rank that failed first, unless it was on the console, and why."""
        if found.cause is None or (self.asked and found.exit_code < 0):
            return
        if found.rank:
            lines = [line for line in self.ends[found.rank].lines if not is_noise(line)]
            for line in lines[-SHOWN_LINES:]:
                self.listener.show(f"rank {found.rank} | {line}")
        self.listener.show(found.cause)


def swept(lost: Connection, grace_seconds: float) -> Message | None:
    """Have a new agent end what another has left; None if its machine does not answer."""
    if not lost.processes:
        return {"ended": 0, "left": 0}
    events: Events = SimpleQueue()
    connection = Connection(lost.number, lost.node, os.getcwd(), events)
    kept = [{key: each[key] for key in ("pid", "began", "boot")} for each in lost.processes]
    connection.tell("sweep", processes=kept, grace_seconds=grace_seconds)
    deadline = time.monotonic() + OPEN_SECONDS + grace_seconds
    found = None
    while found is None and (left := deadline - time.monotonic()) > 0:
        with suppress(Empty):
            event = events.get(timeout=left)
            assert isinstance(event, Event)
            if event.message is None:
                break
            found = event.message
    connection.close()
    return found
