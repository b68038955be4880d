"""The side channel: real sockets, in one process."""

import socket
from collections.abc import Iterator

import pytest

from runtime.config import Watchdog
from runtime.watchdog import channel, heartbeat
from runtime.watchdog.activity import Activity
from runtime.watchdog.channel import Channel
from runtime.watchdog.coordinator import Coordinator
from runtime.watchdog.heartbeat import Heartbeat
from runtime.watchdog.report import Member
from runtime.watchdog.setting import Setting
from runtime.watchdog.stall import OwnReport
from runtime.watchdog.verdict import Verdict
from tests.ranks import wait_for

MEMBERS = [Member(rank, "here", f"machine {rank}", 0, 0) for rank in range(3)]


@pytest.fixture
def ends() -> Iterator[tuple[Channel, Channel]]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        ours = channel.connect("127.0.0.1", server.getsockname()[1], 5)
        theirs = Channel(server.accept()[0])
    yield ours, theirs
    ours.close()
    theirs.close()


def received(end: Channel, number: int) -> list[dict[str, object]]:
    found: list[dict[str, object]] = []

    def have_come() -> bool:
        found.extend(end.receive())
        return len(found) >= number

    wait_for(have_come, "messages")
    return found


def test_messages_arrive_whole_and_in_order(ends: tuple[Channel, Channel]) -> None:
    ours, theirs = ends
    sent = [{"number": number, "text": "ü\n" * number} for number in range(50)]
    for message in sent:
        ours.send(message)
    assert received(theirs, 50) == sent
    wait_for(lambda: not ours.is_unacknowledged(), "the acknowledgement")


def test_a_message_in_pieces(ends: tuple[Channel, Channel]) -> None:
    ours, theirs = ends
    ours.socket.send(b'{"a": 1}\n{"b"')
    assert received(theirs, 1) == [{"a": 1}]
    ours.socket.send(b": 2}\n")
    assert received(theirs, 1) == [{"b": 2}]


def test_the_last_words_are_heard_after_the_connection_is_closed(
    ends: tuple[Channel, Channel],
) -> None:
    ours, theirs = ends
    ours.send({"bye": None})
    ours.close()
    assert received(theirs, 1) == [{"bye": None}]
    wait_for(lambda: not (theirs.receive() or theirs.is_open), "the end")


def test_a_farewell_lets_the_other_end_read_although_it_has_sent(
    ends: tuple[Channel, Channel],
) -> None:
    ours, theirs = ends
    theirs.send({"beat": 1})  # unread by us: a plain close would reset the connection
    ours.deliver({"bye": None}, 1.0)
    channel.farewell([ours], 0.2)
    assert received(theirs, 1) == [{"bye": None}]
    assert ours.socket.fileno() == -1


@pytest.mark.parametrize(
    "sent", [b"GET / HTTP/1.1\r\n\r\n", b"[1]\n", b"\xff\xfe\n", b"x" * 200_000]
)
def test_something_else_is_refused(ends: tuple[Channel, Channel], sent: bytes) -> None:
    ours, theirs = ends
    ours.socket.setblocking(True)
    ours.socket.sendall(sent)
    ours.close()
    with pytest.raises(ValueError):
        wait_for(lambda: bool(theirs.receive()) or not theirs.is_open, "the refusal")


def test_a_peer_that_takes_nothing_is_given_up(ends: tuple[Channel, Channel]) -> None:
    ours = ends[0]
    for _ in range(2000):
        ours.send({"text": "x" * 10_000})  # never blocks
    assert len(ours.unsent) <= channel.KEPT_BYTES
    wait_for(lambda: not (ours.receive() or ours.is_open), "the end")


def test_ranks_join_by_the_token_and_the_port_is_closed_behind_them() -> None:
    ended: list[Verdict] = []
    own = OwnReport(Activity(), 0)
    setting = Setting(Watchdog(), MEMBERS, MEMBERS[0], 0.05, own, ended.append)
    side = Coordinator(setting)
    beat = Heartbeat(side, 0.05, None)
    listener = channel.listen("127.0.0.1", 3)
    port = listener.getsockname()[1]
    heartbeat.accept(beat, side, listener, "secret")
    beat.thread.start()
    greetings = [
        ({"token": "guess", "rank": 1}, False),
        ({"token": "secret", "rank": 0}, False),
        ({"token": "secret", "rank": 3}, False),
        ({"rank": 1}, False),
        ({"token": "secret", "rank": 1}, True),
        ({"token": "secret", "rank": 1}, False),  # there already
        ({"token": "secret", "rank": 2}, True),
    ]
    ours = []
    for greeting, is_welcome in greetings:
        end = channel.connect("127.0.0.1", port, 5)
        end.send(greeting)
        ours.append(end)
        if is_welcome:
            (beat_of_0,) = received(end, 1)[:1]
            assert "beat" in beat_of_0
        else:
            wait_for(lambda end=end: not (end.receive() or end.is_open), "the refusal")
    assert listener.fileno() == -1
    assert sorted(side.peers) == [1, 2]
    for end in ours:
        if end.is_open:
            end.deliver({"bye": None}, 1.0)
    beat.leave(None)
    assert not beat.thread.is_alive()
    assert not ended
    for end in ours:
        end.close()
