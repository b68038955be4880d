"""The command that starts the probe on a host: here, by ssh or as a step of a SLURM job.

In a step it comes to its Python as a rank does: through the lines of `slurm.setup` and into the
container. The lines are run on the node itself; those of a container that srun makes are run before
srun, which hands their variables on, because such a container has nothing of the node's.
"""

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


SETUP_FAILED = "textmill: slurm.setup failed at "
SETUP = f"""set -eo pipefail
trap 'echo "{SETUP_FAILED}$BASH_COMMAND" >&2' ERR
{{lines}}
trap - ERR
exec "$@"
"""


def commands(plan: Plan) -> Mapping[str, list[str]]:
    """By host."""
    return {host.name: command(plan, host.name) for host in plan.hosts}


def command(plan: Plan, host: str) -> list[str]:
    start = [plan.python, "-u", "-m", MODULE]
    if plan.reached == "here":
        return start
    if plan.reached == "srun":
        job = [] if plan.allocation is None else [f"--jobid={plan.allocation}"]
        step = [*STEP, *job, f"--nodelist={host}", f"--chdir={plan.folder}", *plan.step.options]
        program = [*plan.step.prefix, *start]
        if plan.step.options:
            return after_setup(plan, [*step, *program])
        return [*step, *after_setup(plan, program)]
    return ssh.module(host, MODULE, plan.folder)


def after_setup(plan: Plan, command: list[str]) -> list[str]:
    """The command, after the lines of the recipe."""
    if not plan.step.setup:
        return command
    return ["bash", "-c", SETUP.format(lines="\n".join(plan.step.setup)), "setup", *command]
