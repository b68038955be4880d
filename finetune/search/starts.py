"""What has to be started so that a program runs in a place: command lines and environments.

One rank on this machine is a plain process. Several, or ranks on other machines, are a process too,
which has them started and passes signals on (`python -m launch.hosts`). Under SLURM it is a job
step, in which srun tells ranks who they are. Starts nothing itself.
"""

import sys
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from finetune.search.places import Place, Step
from launch.hosts.driver import Wanted
from launch.hosts.environment_file import OF_A_RANK
from runtime import starting

FIRST_PORT, NUM_PORTS = 20000, 12000
# Ranks of one node need no name of it. A rank that was told to stop ends with 75, for which srun
# would kill those still closing files.
STEP = (
    'trap : USR1 TERM; export MASTER_ADDR=127.0.0.1; if [ "$SLURM_STEP_NUM_NODES" -gt 1 ]; then '
    'MASTER_ADDR="$(scontrol show hostnames "$SLURM_STEP_NODELIST" | sed -n 1p)"; fi; '
    'code=0; "$@" || code=$?; [ "$code" -eq 75 ] && exit 0; exit "$code"'
)


@dataclass(frozen=True)
class Start:
    """A process to be started here."""

    line: tuple[str, ...]
    environment: dict[str, str] = field(default_factory=dict)
    # srun, which passes USR1 on to its tasks, ends them at TERM, and is 0 for those that saved.
    is_step: bool = False
    # For standard input; the process then has ranks that it tells to stop at a signal, and ends at
    # a second one.
    wanted: Wanted | None = None


def of(
    place: Place,
    arguments: Sequence[str],
    folder: Path,
    cache: Path,
    environment: Mapping[str, str],
) -> Start:
    """What has to be started here so that `python ARGUMENTS` runs in a place.

    `folder` is the trial's, `cache` for DeepSpeed's builds, `environment` that of this process.
    """
    program = (sys.executable, *arguments)
    # This process may be a rank of something itself.
    of_a_rank = OF_A_RANK | {"MASTER_ADDR"}
    inherited = {key: value for key, value in environment.items() if key not in of_a_rank}
    own = cache / f"place-{place.number}"
    shared = starting.variables(own)
    if place.step is not None:
        port = FIRST_PORT + (zlib.crc32(str(cache.absolute()).encode()) + place.number) % NUM_PORTS
        return step_start(place.step, program, shared | inherited | {"MASTER_PORT": str(port)})
    if len(place.seats) > 1 or place.seats[0].host is not None:
        wanted = Wanted(place.nodes, tuple(arguments), folder, own, place.sent, place.threads)
        return Start((sys.executable, "-m", "launch.hosts"), inherited, wanted=wanted)
    (node,) = place.nodes
    device = {"CUDA_VISIBLE_DEVICES": node.devices[0]} if node.devices else {}
    return Start(program, shared | starting.rank_variables(place.threads) | inherited | device)


def step_start(step: Step, program: Sequence[str], environment: dict[str, str]) -> Start:
    """All ranks of a trial as a job step."""
    line = ["srun", f"--nodes={step.nodes}", f"--ntasks={step.tasks}", "--exclusive", "--mem=0"]
    if step.cpus_per_task is not None:
        line.append(f"--cpus-per-task={step.cpus_per_task}")
    if step.gpus_per_node is not None:
        line.append(f"--gpus-per-node={step.gpus_per_node}")
    line += ["--kill-on-bad-exit=1", "bash", "-c", STEP, "trial", *program]
    return Start(tuple(line), environment, is_step=True)
