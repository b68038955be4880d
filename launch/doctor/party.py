"""All hosts at once: probes are started, asked and ended side by side, so that a dead one costs
seconds whatever their number."""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from launch.doctor.conversation import Conversation, NoAnswer, Opening, answer_of
from launch.doctor.plan import Plan

OPEN_SECONDS = 30.0  # to start a probe: ssh, and Python from a file system that is cold
SECONDS = 20.0  # to answer
CLOSERS = 32  # threads
Arguments = Mapping[str, Any]


class Party:
    """The hosts that can be asked."""

    def __init__(
        self, conversations: dict[str, Conversation], openings: dict[str, Opening]
    ) -> None:
        self.openings = openings
        self.conversations = {
            host: conversation
            for host, conversation in conversations.items()
            if openings[host].error is None
        }
        self.silent: dict[str, NoAnswer] = {}  # of the last question: who did not answer, and why

    @property
    def hosts(self) -> list[str]:
        return list(self.conversations)

    def ask(
        self,
        check: str,
        call: str,
        arguments: Mapping[str, Arguments] | None = None,
        seconds: float = SECONDS,
    ) -> dict[str, Any]:
        """Ask every host, or those that `arguments` names, at the same time; answers by host."""
        asked = {host: {} for host in self.hosts} if arguments is None else arguments
        deadline = time.monotonic() + seconds
        futures = {
            host: self.conversations[host].ask(check, call, asked[host])
            for host in self.hosts
            if host in asked
        }
        answers = {}
        for host, future in futures.items():
            try:
                answers[host] = answer_of(future, deadline, seconds)
            except NoAnswer as reason:
                self.silent[host] = reason
        return answers


@contextmanager
def opened(plan: Plan, commands: Mapping[str, Sequence[str]]) -> Iterator[Party]:
    """Start a probe by each host's command, and end them all with the block."""
    conversations: dict[str, Conversation] = {}
    try:
        for host, command in commands.items():
            first = {
                "environment": plan.environment,
                "folder": plan.folder,
                "host": host,
                "plan": plan.to_json(),
            }
            conversations[host] = Conversation(host, command, first)
        deadline = time.monotonic() + OPEN_SECONDS
        openings = {host: one.opening(deadline) for host, one in conversations.items()}
        yield Party(conversations, openings)
    finally:
        close(conversations.values())


def close(conversations: Iterable[Conversation]) -> None:
    """End all at once, so that several that hang take no longer than one."""
    with ThreadPoolExecutor(max_workers=CLOSERS) as pool:
        list(pool.map(Conversation.close, conversations))
