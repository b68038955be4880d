"""SLURM is up, lets the job run as it is written, and gives the nodes it asks for."""

import re
import shutil
from collections.abc import Iterator, Mapping
from subprocess import TimeoutExpired

from launch.doctor.allocation import last_line, said
from launch.doctor.finding import Finding, fault, warning
from launch.doctor.plan import Job, Plan

SAVE_SECONDS = 30  # KillWait: between SIGTERM and SIGKILL a checkpoint must fit
SETTING = re.compile(r"^(\w+)\s*=\s*(.*?)\s*$", re.MULTILINE)
CLOSED = ("DOWN", "DRAIN", "INACTIVE")
UNUSABLE = ("down", "drain", "fail", "not_responding", "unknown", "*")
GPUS = re.compile(r"gpu(?::[\w.-]+)?:(\d+)")


def applies(plan: Plan) -> bool:
    return plan.reached == "srun"


def examine(plan: Plan) -> Iterator[Finding]:
    """Controller, settings, partition, nodes."""
    if shutil.which("scontrol") is None:
        yield fault(
            "here", "scontrol is not in PATH", "log in to a submit host, or load its module"
        )
        return
    try:
        ping = said("scontrol", "ping")
        if ping.returncode or "UP" not in ping.stdout:
            yield fault(
                "slurmctld",
                f"it does not answer ({last_line(ping.stdout + ping.stderr)})",
                "`systemctl start slurmctld` on its host; see its log (SlurmctldLogFile)",
            )
            return
        yield from of_settings(settings(said("scontrol", "show", "config").stdout))
        for name, limits in ({"": {}} if plan.job is None else plan.job.limits or {"": {}}).items():
            yield from of_partition(name, limits)
        yield from of_nodes(plan.job)
    except TimeoutExpired as error:
        yield fault(
            "slurmctld",
            f"`{' '.join(error.cmd)}` took longer than {error.timeout:.0f} s",
            "look at its load with `sdiag`",
        )
        return
    if plan.reason is not None:
        yield warning(
            "nodes",
            f"none could be had to look at ({plan.reason}), so only SLURM itself was checked",
            "run it inside a job: `salloc --nodes=2 --exclusive textmill doctor --slurm`",
        )


def settings(text: str) -> dict[str, str]:
    return dict(SETTING.findall(text))


def of_settings(found: Mapping[str, str]) -> Iterator[Finding]:
    """Of the whole cluster, from `scontrol show config`."""
    if found.get("JobRequeue") == "0":
        yield fault(
            "slurm.conf",
            "JobRequeue=0: a job that is preempted or loses a node does not come back by itself",
            "set JobRequeue=1, or submit with `--requeue`",
        )
    wait = re.match(r"\d+", found.get("KillWait", ""))
    if wait and int(wait[0]) < SAVE_SECONDS:
        yield warning(
            "slurm.conf",
            f"KillWait={wait[0]}: ranks are killed {wait[0]} s after SIGTERM, saved or not",
            "keep `--signal=USR1@120` of the batch scripts, which asks them in time, or set "
            "KillWait=60",
        )
    if found.get("AccountingStorageType", "").endswith("none"):
        yield warning(
            "slurm.conf",
            "no accounting: `sacct` cannot say how a job ended once it has left the queue",
            "set AccountingStorageType=accounting_storage/slurmdbd and start slurmdbd",
        )


def of_partition(names: str, limits: Mapping[str, int]) -> Iterator[Finding]:
    """Partitions with commas between them, or the default one, against times that jobs ask for.

    Of several SLURM takes the first that has room, so a fault of one is a warning.
    """
    level = warning if "," in names else fault
    for name in names.split(","):
        for finding in of_one_partition(name, limits):
            yield level(finding.where, finding.what, finding.fix)


def of_one_partition(name: str, limits: Mapping[str, int]) -> Iterator[Finding]:
    """The partition of this name, or the default one."""
    lines = said("scontrol", "--oneliner", "show", "partition", *([name] if name else []))
    tables = [dict(re.findall(r"(\w+)=(\S*)", line)) for line in lines.stdout.splitlines() if line]
    chosen = [table for table in tables if name or table.get("Default") == "YES"]
    if lines.returncode or (name and not chosen):
        yield fault(
            f"partition {name}",
            f"it does not exist ({last_line(lines.stdout + lines.stderr)})",
            "choose one that `sinfo --summarize` shows, in `slurm.partition`",
        )
        return
    if not chosen:
        yield fault(
            "slurm.conf",
            "there is no default partition and the recipe names none",
            "set `slurm.partition` to one that `sinfo --summarize` shows",
        )
    for table in chosen:
        where, state = f"partition {table['PartitionName']}", table.get("State", "")
        if state in CLOSED:
            yield fault(
                where,
                f"its state is {state}: jobs wait for ever",
                f"`scontrol update PartitionName={table['PartitionName']} State=UP`, or another "
                "partition",
            )
        limit = minutes(table.get("MaxTime", ""))
        for key, asked in limits.items():
            if limit is not None and asked > limit:
                yield fault(
                    where,
                    f"{key} asks for {asked} min, the limit is {limit} min",
                    f"`{key}={limit}`: the job saves in time, and queues itself again",
                )


def minutes(text: str) -> int | None:
    """A limit as SLURM writes it, `[D-]HH:MM:SS`; None: UNLIMITED."""
    found = re.fullmatch(r"(?:(\d+)-)?(\d+):(\d+):(\d+)", text)
    if found is None:
        return None
    days, hours, rest, _ = (int(part or 0) for part in found.groups())
    return (days * 24 + hours) * 60 + rest


def of_nodes(job: Job | None) -> Iterator[Finding]:
    """Nodes out of service, and whether enough have what the job asks for."""
    chosen = [f"--partition={job.partition}"] if job is not None and job.partition else []
    told = said("sinfo", "--noheader", "--Node", "--format=%N|%T|%G|%E", *chosen).stdout
    nodes = {line.split("|")[0]: line.split("|") for line in told.splitlines() if "|" in line}
    usable = {}
    for name, (_, state, gres, reason) in nodes.items():
        if any(word in state for word in UNUSABLE):
            yield warning(
                name,
                f"its state is {state} ({reason})",
                f"`scontrol update NodeName={name} State=RESUME` once that is put right",
            )
        else:
            usable[name] = gres
    wanted = 1 if job is None else job.num_nodes or 1
    devices = 0 if job is None else job.num_devices or 0
    fitting = [
        name for name, gres in usable.items() if sum(map(int, GPUS.findall(gres))) >= devices
    ]
    if len(fitting) < wanted:
        having = f" with {devices} GPUs" if devices else ""
        yield fault(
            "nodes",
            f"the job asks for {wanted} nodes{having}, {len(fitting)} can be used",
            "ask for fewer in `[slurm]`, or bring nodes back (`sinfo --list-reasons`)",
        )
