"""What a recipe says about where ranks run: the machines, and what reaches the ranks there."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from launch.hosts import environment_file, hostfile, nodes
from launch.hosts.forwarding import forwarded
from launch.hosts.nodes import Node
from runtime.config import Recipe
from runtime.recipe import read_text


@dataclass(frozen=True)
class Layout:
    """The machines of a run."""

    nodes: tuple[Node, ...]
    environment: dict[str, str] = field(default_factory=dict)  # sent to ranks on other machines

    @property
    def num_ranks(self) -> int:
        return nodes.world_size(self.nodes)

    @property
    def is_one_process(self) -> bool:
        """True if there is nothing for an agent to do."""
        return self.num_ranks == 1 and self.nodes[0].host is None

    def __str__(self) -> str:
        if self.is_one_process:
            return "1 process"
        ranks = f"{self.num_ranks} rank{'s' if self.num_ranks > 1 else ''}"
        names = [node.host for node in self.nodes if node.host is not None]
        if not names:
            return ranks
        more = f" and {len(names) - 3} more hosts" if len(names) > 4 else ""
        return f"{ranks} on {', '.join(names[:3] if more else names)}{more}"


ALONE = Layout(nodes.here(1))


def layout_of(recipe: Recipe, path: Path, overrides: Sequence[str]) -> Layout:
    """Where the ranks of a recipe run. Raises RecipeError for a hostfile or an environment file
    that cannot work."""
    launch = recipe.launch
    if launch.launcher != "deepspeed":
        return Layout(nodes.here(launch.ranks))
    hosts = hostfile.read(launch.hostfile or Path("hostfile"))
    sent = forwarded(os.environ, (read_text(path), *overrides))
    return Layout(nodes.of_hosts(hosts), sent | environment_file.read(launch.environment_file))
