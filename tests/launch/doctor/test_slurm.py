"""Faults of a SLURM cluster, planted on a real one, and its nodes looked at by steps of a job."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from launch.doctor.opening import command
from launch.doctor.plan import Host, Plan, Step
from launch.doctor.probe import MODULE
from tests.launch.doctor.examined import Line, Report, doctor, recipe
from tests.ranks import wait_for
from tests.slurm_cluster import Cluster, is_idle

# Both nodes are this machine, whose network has no names for them.
ONE_MACHINE = ("leftovers", "names", "bandwidth")
OF_THE_TEST = {"KillWait=2", "no accounting"}  # how the small cluster of the tests is set up


def examined(slurm: Cluster, folder: Path, *arguments: str) -> Report:
    environment = {"SLURM_CONF": str(slurm.config)}
    return doctor("--slurm", *arguments, folder=folder, environment=environment, skip=ONE_MACHINE)


def own(found: Report) -> list[Line]:
    """The findings beside what the cluster of the tests is known for."""
    rest = [line for line in found.lines if not line.what.startswith(tuple(OF_THE_TEST))]
    assert len(found.lines) - len(rest) == len(OF_THE_TEST)
    return rest


@contextmanager
def changed(slurm: Cluster, what: str, planted: str, healed: str) -> Iterator[None]:
    slurm.run("scontrol", "update", what, *planted.split())
    try:
        yield
    finally:
        slurm.run("scontrol", "update", what, *healed.split())
        wait_for(lambda: is_idle(slurm), "the nodes to be idle")


def test_a_healthy_cluster(slurm: Cluster, tmp_path: Path) -> None:
    """Both nodes are looked at in a job of the doctor's own, which is gone afterwards."""
    found = examined(slurm, tmp_path)
    assert own(found) == []
    assert found.exit_code == 0
    assert found.hosts == ["n1", "n2"]
    assert {"slurm", "reach", "versions", "shared", "links"} <= set(found.checks)
    wait_for(lambda: is_idle(slurm), "the nodes to be idle")


def test_inside_a_job(slurm: Cluster, tmp_path: Path) -> None:
    """The nodes and tasks are those of the job, and the job is still there afterwards."""
    looks = f"{sys.executable} -m launch doctor --slurm --only reach cores"
    script = f"{looks} && echo job of $(squeue -h -j $SLURM_JOB_ID -o %T)"
    asked = ("--nodes=1", "--ntasks-per-node=2", "--immediate=60")
    done = subprocess.run(
        ["salloc", *asked, "sh", "-c", script],
        cwd=tmp_path, env={**os.environ, "SLURM_CONF": str(slurm.config)},
        capture_output=True, text=True, timeout=180,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 checks on 1 host in" in done.stdout
    assert done.stdout.splitlines()[-1].endswith("of RUNNING")


def test_no_controller(tmp_path: Path, slurm: Cluster) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        text = slurm.config.read_text()
        (port,) = [line for line in text.splitlines() if line.startswith("SlurmctldPort=")]
        config = tmp_path / "slurm.conf"
        config.write_text(text.replace(port, f"SlurmctldPort={free.getsockname()[1]}"))
        environment = {"SLURM_CONF": str(config)}
        found = doctor("--slurm", "--only", "slurm", folder=tmp_path, environment=environment)
    line = found.only("fault", "slurm")
    assert line.where == "slurmctld"
    assert line.what.startswith("it does not answer (")
    assert "`systemctl start slurmctld`" in line.fix


def test_a_partition_that_is_down(slurm: Cluster, tmp_path: Path) -> None:
    with changed(slurm, "PartitionName=all", "State=DOWN", "State=UP"):
        found = examined(slurm, tmp_path)
    assert found.exit_code == 2
    fault, warning = own(found)
    assert (fault.where, fault.what) == ("partition all", "its state is DOWN: jobs wait for ever")
    assert fault.fix.startswith("`scontrol update PartitionName=all State=UP`")
    assert warning.what.startswith("none could be had to look at (")
    assert "`salloc --nodes=2 --exclusive textmill doctor --slurm`" in warning.fix


def test_a_node_that_is_drained(slurm: Cluster, tmp_path: Path) -> None:
    with changed(slurm, "NodeName=n2", "State=DRAIN Reason=broken-fan", "State=RESUME"):
        found = examined(slurm, tmp_path)
    lines = own(found)
    assert len(lines) == 1, lines
    line = lines[0]
    assert (line.level, line.where) == ("warning", "n2")
    assert line.what == "its state is drained (broken-fan)"
    assert line.fix.startswith("`scontrol update NodeName=n2 State=RESUME`")
    assert found.hosts == ["n1"]


def test_a_job_longer_than_the_partition_allows(slurm: Cluster, tmp_path: Path) -> None:
    asked = "[launch]", "[slurm.minutes]\npretrain = 600\n\n[launch]"
    recipe(tmp_path, tmp_path / "runs", asked)
    (line,) = own(examined(slurm, tmp_path, "small.toml", "--only", "slurm"))
    assert (line.level, line.where) == ("fault", "partition all")
    assert line.what == "slurm.minutes.pretrain asks for 600 min, the limit is 60 min"
    assert line.fix.startswith("`slurm.minutes.pretrain=60`")


def test_a_batch_that_the_ranks_of_the_nodes_cannot_share(slurm: Cluster, tmp_path: Path) -> None:
    asked = "[launch]", "[slurm]\nnodes = 2\nranks_per_node = 3\n\n[launch]"
    recipe(tmp_path, tmp_path / "runs", asked)
    chosen = ("--only", "slurm", "recipe")
    (line,) = own(examined(slurm, tmp_path, "small.toml", *chosen))
    assert (line.level, line.check) == ("fault", "recipe")
    assert "micro_batch_size x ranks = 2 x 6 = 12" in line.what


def test_a_partition_that_does_not_exist(slurm: Cluster, tmp_path: Path) -> None:
    asked = "[launch]", '[slurm]\npartition = "gpu"\n\n[launch]'
    recipe(tmp_path, tmp_path / "runs", asked)
    lines = own(examined(slurm, tmp_path, "small.toml", "--only", "slurm"))
    assert lines[0].level == "fault"
    assert lines[0].what.startswith("it does not exist (")
    assert "`sinfo --summarize`" in lines[0].fix


def test_a_python_that_is_not_on_the_nodes(slurm: Cluster, tmp_path: Path) -> None:
    asked = "[launch]", '[slurm]\npython = "/opt/none/bin/python"\n\n[launch]'
    recipe(tmp_path, tmp_path / "runs", asked)
    (line,) = own(examined(slurm, tmp_path, "small.toml", "--only", "slurm", "reach"))
    assert (line.level, line.check, line.where) == ("fault", "reach", "n1")
    assert line.what.startswith("this Python does not start there (")
    assert line.fix == (
        "install the same environment at /opt/none/bin/python on it, or share that folder"
    )


def test_a_line_of_the_setup_that_fails(slurm: Cluster, tmp_path: Path) -> None:
    asked = "[launch]", '[slurm]\nnodes = 1\nsetup = ["true", "module load none"]\n\n[launch]'
    recipe(tmp_path, tmp_path / "runs", asked)
    (line,) = own(examined(slurm, tmp_path, "small.toml", "--only", "slurm", "reach"))
    assert (line.level, line.check) == ("fault", "reach")
    assert line.what == (
        "a line of slurm.setup fails there (textmill: slurm.setup failed at module load none)"
    )
    assert line.fix.startswith("correct it in the recipe")


def test_a_variable_of_the_setup(slurm: Cluster, tmp_path: Path) -> None:
    """The lines of the recipe are run on the nodes before the probe."""
    lines = '[slurm]\nnodes = 1\nsetup = ["export GLOO_SOCKET_IFNAME=eth77"]\n\n[launch]'
    recipe(tmp_path, tmp_path / "runs", ("[launch]", lines))
    (line,) = own(examined(slurm, tmp_path, "small.toml", "--only", "slurm", "interfaces"))
    assert (line.level, line.check) == ("fault", "interfaces")
    assert line.what == "GLOO_SOCKET_IFNAME=eth77, but there is no such interface"
    assert line.fix.startswith("set GLOO_SOCKET_IFNAME in slurm.setup to one of: ")


def test_steps_in_containers() -> None:
    """As `textmill run` starts ranks in them: pyxis by srun, apptainer on the node."""
    hosts, setup = (Host("n1", 1),), ("module load x",)
    pyxis = Step(setup, options=("--container-image=i",))
    started = command(Plan(hosts, "srun", python="python3", step=pyxis), "n1")
    assert started[:2] == ["bash", "-c"]
    assert started[started.index("setup") + 1] == "srun"
    assert started[-5:] == ["--container-image=i", "python3", "-u", "-m", MODULE]

    apptainer = Step(setup, prefix=("apptainer", "exec", "i.sif"))
    started = command(Plan(hosts, "srun", python="python3", step=apptainer), "n1")
    assert started[0] == "srun"
    assert started[started.index("setup") + 1 :] == [
        *("apptainer", "exec", "i.sif"),
        *("python3", "-u", "-m", MODULE),
    ]


def test_without_slurm(tmp_path: Path) -> None:
    found = doctor("--slurm", "--only", "slurm", folder=tmp_path, environment={"PATH": "/nowhere"})
    line = found.only("fault", "slurm")
    assert line.what == "scontrol is not in PATH"
