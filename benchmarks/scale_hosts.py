"""A hostfile of 1,000 hosts: read, planned, its commands rendered, its agents held.

    python benchmarks/scale_hosts.py [--quick] [--hosts N]

Hostfile, layout, the commands of ssh, the orders that agents get and the connections are those of
`textmill run --hostfile`. No host is reached: the `ssh` that the connections start is a program
that reads until it is told that nothing follows. So this is what the machine that starts a run
needs, a process, three threads and three open files a host, and what is left out is the time of
sshd and of Python on the others, which they take at the same time.
"""

import argparse
import os
import shlex
import stat
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import cost
import record
from rich.console import Console
from rich.table import Table

from launch.hosts import layout, messages, nodes, ssh
from launch.hosts.connection import MODULE, Connection
from launch.hosts.nodes import Node
from runtime.config import Launch, Recipe

HOSTS, QUICK_HOSTS = 1_000, 50
SLOTS = 8
SSH = "#!/bin/sh\nexec cat\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_HOSTS} hosts")
    parser.add_argument("--hosts", type=int, default=HOSTS)
    told = parser.parse_args()
    count = QUICK_HOSTS if told.quick else told.hosts
    with tempfile.TemporaryDirectory(prefix="textmill-scale-") as name:
        raw = measure(Path(name), count)
    figures: dict[str, float] = {"hosts": count, "ranks": count * SLOTS}
    for row in raw:
        what = str(row["what"]).replace(" ", "_")
        figures |= {f"{what}_{key}": value for key, value in row.items() if key != "what"}
    path = record.write("scale_hosts", figures, [cost.SHARED, *raw])
    table = Table("what", "wall s", "CPU s", "more", title=f"{count:,} hosts of {SLOTS} ranks")
    known = ("what", "wall_s", "cpu_s", "peak_mb")
    for row in raw:
        more = ", ".join(f"{key} {value:,.6g}" for key, value in row.items() if key not in known)
        table.add_row(row["what"], f"{row['wall_s']:.2f}", f"{row['cpu_s']:.2f}", more)
    Console().print(table)
    print(path)


def measure(folder: Path, num_hosts: int) -> list[dict[str, Any]]:
    """The cost of each part."""
    hostfile = folder / "hostfile"
    hostfile.write_text("".join(f"node-{n:04d} slots={SLOTS}\n" for n in range(num_hosts)))
    (folder / "recipe.toml").write_text('name = "scale"\n')
    launch = Launch(launcher="deepspeed", hostfile=hostfile)
    recipe = Recipe(name="scale", output=folder / "out", launch=launch)
    with cost.of("read and plan") as planned:
        found = layout.layout_of(recipe, folder / "recipe.toml", ())
    assert found.num_ranks == num_hosts * SLOTS
    with cost.of("render commands and orders") as rendered:
        commands = [shlex.join(ssh.module(str(n.host), MODULE, "/shared")) for n in found.nodes]
        orders = [order(found.nodes, number) for number in range(num_hosts)]
    assert len(set(commands)) == num_hosts
    sizes = {
        "command_bytes": max(map(len, commands)),
        "order_bytes": max(map(len, orders)),
        "all_order_bytes": sum(map(len, orders)),
    }
    return [
        planned.row() | {"hostfile_bytes": hostfile.stat().st_size},
        rendered.row() | sizes,
        held(folder, found.nodes, orders),
    ]


def order(machines: Sequence[Node], number: int) -> bytes:
    """What the agent of a host is told to start."""
    identities = [
        nodes.identity(machines, number, rank, "10.0.0.1", 29500) for rank in machines[number].ranks
    ]
    program = ["-m", "pretrain", "/shared/recipe.toml"]
    return messages.order("start", program=program, identities=identities, logs="/shared/logs")


def held(folder: Path, machines: Sequence[Node], orders: Sequence[bytes]) -> dict[str, Any]:
    """Connections to all agents at once."""
    program = folder / "bin" / "ssh"
    program.parent.mkdir()
    program.write_text(SSH)
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    before = os.environ["PATH"]
    os.environ["PATH"] = f"{program.parent}{os.pathsep}{before}"
    events: SimpleQueue[Any] = SimpleQueue()
    connections: list[Connection] = []
    try:
        with cost.of("hold agents") as found:
            for number, node in enumerate(machines):
                connections.append(Connection(number, node, "/shared", events))
                connections[-1].outgoing.put(orders[number])
            num_threads = threading.active_count()
    finally:
        os.environ["PATH"] = before
        for connection in connections:
            connection.outgoing.put(None)
        for connection in connections:
            connection.close()
    ended = [events.get(timeout=60.0) for _ in machines]
    assert all(event.message is None for event in ended)
    assert all(connection.process.returncode == 0 for connection in connections)
    return found.row() | {"threads": num_threads}


if __name__ == "__main__":
    main()
