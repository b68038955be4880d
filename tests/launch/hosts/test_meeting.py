"""Who is which rank, and where all meet."""

from typing import Any

import pytest

from launch.hosts import meeting, nodes
from launch.hosts.hostfile import Host
from launch.hosts.layout import ALONE, Layout
from launch.hosts.nodes import Node
from runtime.errors import RecipeError

TWO = nodes.of_hosts([Host("node-01", 2), Host("node-02", 1)])


def facts(first: list[str], address: str | None = None, is_shared: bool = True) -> dict[str, Any]:
    return {"first": first, "address": address, "is_shared": is_shared}


def test_a_rank_for_each_slot() -> None:
    assert list(TWO) == [Node("node-01", 0, 2), Node("node-02", 2, 1)]
    assert nodes.identity(TWO, 1, 2, "10.0.0.1", 20001) == {
        "RANK": "2", "LOCAL_RANK": "0", "WORLD_SIZE": "3", "LOCAL_WORLD_SIZE": "1",
        "LOCAL_SIZE": "1", "CROSS_RANK": "1", "CROSS_SIZE": "2", "MASTER_ADDR": "10.0.0.1",
        "MASTER_PORT": "20001", "TEXTMILL_HOST": "node-02",
    }  # fmt: skip


def test_ranks_here_see_the_gpus_they_were_given() -> None:
    found = nodes.identity(nodes.here(2, ["4", "6"]), 0, 1, "127.0.0.1", 20001)
    assert (found["LOCAL_RANK"], found["CUDA_VISIBLE_DEVICES"]) == ("1", "4,6")
    assert "TEXTMILL_HOST" not in found


def test_a_layout_in_words() -> None:
    assert str(ALONE) == "1 process"
    assert ALONE.is_one_process
    assert str(Layout(nodes.here(2))) == "2 ranks"
    one = Layout(nodes.of_hosts([Host("a", 1)]))
    assert not one.is_one_process
    assert str(one) == "1 rank on a"
    assert str(Layout(TWO)) == "3 ranks on node-01, node-02"
    many = Layout(nodes.of_hosts(Host(f"n{i}", 8) for i in range(64)))
    assert str(many) == "512 ranks on n0, n1, n2 and 61 more hosts"


@pytest.mark.parametrize(
    ("first", "second", "environment", "address"),
    [
        (facts(["127.0.1.1"], "10.9.9.9"), facts(["10.0.0.1"]), {}, "10.0.0.1"),
        (facts([]), facts(["127.0.0.1", "10.0.0.1"]), {}, "10.0.0.1"),
        (facts([], "10.9.9.9"), facts([]), {}, "10.9.9.9"),
        (facts([], "10.9.9.9"), facts(["10.0.0.1"]), {"MASTER_ADDR": "ib0"}, "ib0"),
    ],
)
def test_the_first_host_as_the_others_reach_it(
    first: dict[str, Any], second: dict[str, Any], environment: dict[str, str], address: str
) -> None:
    assert meeting.address(TWO, {0: first, 1: second}, environment) == address


def test_hosts_that_see_it_by_different_addresses_use_its_name() -> None:
    three = nodes.of_hosts([Host("a", 1), Host("b", 1), Host("c", 1)])
    ready = {0: facts([]), 1: facts(["10.0.0.1"]), 2: facts(["10.1.0.1"])}
    assert meeting.address(three, ready, {}) == "a"
    ready[2] = facts(["10.1.0.1", "10.0.0.1"])
    assert meeting.address(three, ready, {}) == "10.0.0.1"


def test_one_machine_needs_no_network() -> None:
    assert meeting.address(nodes.here(2), {0: facts([])}, {}) == "127.0.0.1"


def test_what_cannot_meet_is_refused() -> None:
    with pytest.raises(RecipeError, match="its name means nothing on node-02; add it to DNS"):
        meeting.address(TWO, {0: facts([], "127.0.0.1"), 1: facts([])}, {})
    with pytest.raises(RecipeError, match=r"node-02 does not see a file that .* has just written"):
        meeting.address(TWO, {0: facts([]), 1: facts(["10.0.0.1"], is_shared=False)}, {})
