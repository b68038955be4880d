"""Which ranks run on which machine, and what tells a rank who it is."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from launch.hosts.hostfile import Host


@dataclass(frozen=True)
class Node:
    """A machine and its part of the ranks."""

    host: str | None  # None: this machine
    first_rank: int
    num_ranks: int
    devices: tuple[str, ...] = ()  # GPUs its ranks see, as CUDA names them; none: all there are

    @property
    def ranks(self) -> range:
        return range(self.first_rank, self.first_rank + self.num_ranks)


def here(num_ranks: int, devices: Sequence[str] = ()) -> tuple[Node, ...]:
    """All ranks on this machine."""
    return (Node(None, 0, num_ranks, tuple(devices)),)


def of_hosts(hosts: Iterable[Host]) -> tuple[Node, ...]:
    """A rank for each slot, host after host."""
    found: list[Node] = []
    for host in hosts:
        found.append(Node(host.name, world_size(found), host.slots))
    return tuple(found)


def world_size(nodes: Iterable[Node]) -> int:
    return sum(node.num_ranks for node in nodes)


def identity(
    nodes: Sequence[Node], number: int, rank: int, address: str, port: int
) -> dict[str, str]:
    """The variables that tell a rank of the `number`-th node who it is and where all meet."""
    node = nodes[number]
    found = {
        "RANK": rank,
        "LOCAL_RANK": rank - node.first_rank,
        "WORLD_SIZE": world_size(nodes),
        "LOCAL_WORLD_SIZE": node.num_ranks,
        "LOCAL_SIZE": node.num_ranks,  # DeepSpeed's names, from here
        "CROSS_RANK": number,
        "CROSS_SIZE": len(nodes),
        "MASTER_ADDR": address,
        "MASTER_PORT": port,
    }
    if node.host is not None:
        found["TEXTMILL_HOST"] = node.host
    if node.devices:
        found["CUDA_VISIBLE_DEVICES"] = ",".join(node.devices)
    return {name: str(value) for name, value in found.items()}
