"""What has to be started so that a program runs in a place: command lines and environments.

Ranks are started one by one, not by DeepSpeed's runner: on a signal that one ends its ranks on
other machines by the name of their command, which is the same for all trials. The environment
tells each rank who it is (`runtime/processes.py`); under SLURM srun does. Starts nothing itself.
"""

import os
import shlex
import sys
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from finetune.search.places import Place, Step
from runtime import starting

HOSTS_ENVIRONMENT = ".deepspeed_env"  # what of the environment reaches other machines
FIRST_PORT, NUM_PORTS = 20000, 12000
# Of the process that searches, which may be a rank of something itself.
OF_A_RANK = frozenset(
    {"RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"}
)
# A rank that was told to stop ends with 75, for which srun would kill those still closing files.
STEP = (
    'trap : USR1 TERM; export MASTER_ADDR="$(scontrol show hostnames "$SLURM_STEP_NODELIST" '
    '| sed -n 1p)"; code=0; "$@" || code=$?; [ "$code" -eq 75 ] && exit 0; exit "$code"'
)


@dataclass(frozen=True)
class Start:
    """A process to be started here, and how it is told to stop."""

    line: tuple[str, ...]
    environment: dict[str, str] = field(default_factory=dict)
    # srun, which passes USR1 on to its tasks, ends them at TERM, and is 0 for those that saved.
    is_step: bool = False
    # Commands that reach what runs on another machine; None: the process itself gets the signal.
    stop_line: tuple[str, ...] | None = None
    kill_line: tuple[str, ...] | None = None


def of(
    place: Place,
    arguments: Sequence[str],
    folder: Path,
    cache: Path,
    environment: Mapping[str, str],
) -> list[Start]:
    """What has to be started here so that `python ARGUMENTS` runs in a place.

    `folder` is the trial's, `cache` for DeepSpeed's builds, `environment` that of this process.
    """
    program = (sys.executable, *arguments)
    inherited = {key: value for key, value in environment.items() if key not in OF_A_RANK}
    shared = starting.variables(cache / f"place-{place.number}")
    port = FIRST_PORT + (zlib.crc32(str(cache.absolute()).encode()) + place.number) % NUM_PORTS
    if place.step is not None:
        return [step_start(place.step, program, shared | inherited | {"MASTER_PORT": str(port)})]
    first = place.seats[0].host
    meeting = {
        "WORLD_SIZE": str(len(place.seats)),
        "MASTER_ADDR": first or "127.0.0.1",
        "MASTER_PORT": str(starting.free_port() if first is None else port),
    }
    found = []
    for rank, seat in enumerate(place.seats):
        own = variables_of(place, rank)
        if first is not None or len(place.seats) > 1:
            own |= meeting
        if seat.host is None:
            defaults = shared | starting.rank_variables(place.threads)
            found.append(Start(program, defaults | inherited | own))
        else:
            sent = shared | hosts_environment(Path(HOSTS_ENVIRONMENT)) | own
            sent["OMP_NUM_THREADS"] = str(place.threads)
            found.append(ssh_start(seat.host, program, sent, inherited, folder / f"{rank}.pid"))
    return found


def variables_of(place: Place, rank: int) -> dict[str, str]:
    """What tells a rank who it is and which GPUs of its machine are the trial's."""
    here = [
        number for number, seat in enumerate(place.seats) if seat.host == place.seats[rank].host
    ]
    gpus = [place.seats[number].device for number in here]
    found = {"CUDA_VISIBLE_DEVICES": ",".join(gpu for gpu in gpus if gpu)} if all(gpus) else {}
    if len(place.seats) > 1 or place.seats[rank].host is not None:
        found |= {
            "RANK": str(rank),
            "LOCAL_RANK": str(here.index(rank)),
            "LOCAL_WORLD_SIZE": str(len(here)),
        }
    return found


def hosts_environment(path: Path) -> dict[str, str]:
    """The variables that reach other machines, one NAME=value a line."""
    if not path.is_file():
        return {}
    lines = (line.strip() for line in path.read_text(encoding="utf-8").splitlines())
    pairs = (line.partition("=") for line in lines if line and not line.startswith("#"))
    return {name.strip(): value.strip() for name, _, value in pairs}


def ssh_start(
    host: str,
    program: Sequence[str],
    sent: Mapping[str, str],
    environment: dict[str, str],
    pid_file: Path,
) -> Start:
    """A rank on another machine, which shares this folder; it writes down its process id."""
    pid = shlex.quote(str(pid_file.absolute()))
    variables = shlex.join(f"{key}={value}" for key, value in sent.items())
    script = (
        f"cd {shlex.quote(os.getcwd())} && echo $$ > {pid} && exec env {variables} "
        f"{shlex.join(program)}"
    )
    connect = ("ssh", "-o", "BatchMode=yes", host)
    return Start(
        (*connect, script),
        environment,
        stop_line=(*connect, f"kill -TERM $(cat {pid})"),
        kill_line=(*connect, f"kill -KILL $(cat {pid})"),
    )


def step_start(step: Step, program: Sequence[str], environment: dict[str, str]) -> Start:
    """All ranks of a trial as a job step."""
    line = ["srun", f"--nodes={step.nodes}", f"--ntasks={step.tasks}", "--exclusive", "--mem=0"]
    if step.cpus_per_task is not None:
        line.append(f"--cpus-per-task={step.cpus_per_task}")
    if step.gpus_per_node is not None:
        line.append(f"--gpus-per-node={step.gpus_per_node}")
    line += ["--kill-on-bad-exit=1", "bash", "-c", STEP, "trial", *program]
    return Start(tuple(line), environment, is_step=True)
