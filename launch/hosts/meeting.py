"""Where the ranks of several machines meet, from what the agents have found."""

import socket
from collections.abc import Mapping, Sequence

from launch.hosts.messages import Message
from launch.hosts.nodes import Node
from runtime.errors import RecipeError

LOOPBACK = ("127.", "::1")


def name_of(node: Node) -> str:
    """A machine as people call it."""
    return node.host or socket.gethostname()


def address(
    nodes: Sequence[Node], ready: Mapping[int, Message], environment: Mapping[str, str]
) -> str:
    """The address of the first host, as the others reach it.

    It is MASTER_ADDR of the environment file if that says so; else what its name means on the other
    hosts (on its own it may be a loopback address); else the address by which ssh has reached it.
    Raises RecipeError if they do not share the folder, or if there is no such address.
    """
    blind = [name_of(node) for number, node in enumerate(nodes) if not ready[number]["is_shared"]]
    if blind:
        raise RecipeError(
            f"{', '.join(blind)} does not see a file that {socket.gethostname()} has just written "
            "to the output folder: all hosts must share that folder under the same path; set "
            "`output` to a folder on a file system that they share"
        )
    if len(nodes) == 1:
        return "127.0.0.1"
    if "MASTER_ADDR" in environment:
        return environment["MASTER_ADDR"]
    first, others = nodes[0], range(1, len(nodes))
    meanings = [usable(ready[number]["first"]) for number in others]
    if all(meanings):
        same = [found for found in meanings[0] if all(found in other for other in meanings)]
        return same[0] if same else str(first.host)
    if reached := usable([ready[0]["address"]]):
        return reached[0]
    nowhere = [name_of(nodes[number]) for number in others if not usable(ready[number]["first"])]
    raise RecipeError(
        f"{first.host} has no address that the other hosts can reach: its name means nothing on "
        f"{', '.join(nowhere)}; add it to DNS or to /etc/hosts there, or set MASTER_ADDR in the "
        "environment file"
    )


def usable(addresses: Sequence[str | None]) -> list[str]:
    return [found for found in addresses if found and not found.startswith(LOOPBACK)]
