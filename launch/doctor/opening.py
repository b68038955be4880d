"""The command that starts the probe on a host: here, by ssh or as a step of a SLURM job."""

from collections.abc import Mapping

from launch.doctor.plan import Plan
from launch.doctor.probe import MODULE
from launch.hosts import ssh

# Bound to no core: else `cores` would see that of one task as all there are.
STEP = (
    "srun",
    "--nodes=1",
    "--ntasks=1",
    "--overlap",
    "--cpu-bind=none",
    "--unbuffered",
    "--quiet",
)


def commands(plan: Plan) -> Mapping[str, list[str]]:
    """By host."""
    return {host.name: command(plan, host.name) for host in plan.hosts}


def command(plan: Plan, host: str) -> list[str]:
    start = [plan.python, "-u", "-m", MODULE]
    if plan.reached == "here":
        return start
    if plan.reached == "srun":
        job = [] if plan.allocation is None else [f"--jobid={plan.allocation}"]
        return [*STEP, *job, f"--nodelist={host}", f"--chdir={plan.folder}", *start]
    return ssh.module(host, MODULE, plan.folder)
