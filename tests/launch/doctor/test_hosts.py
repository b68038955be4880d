"""Faults between hosts, planted for real on machines with networks of their own."""

import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import debian
from tests.launch.doctor.examined import ROOT, Report, doctor, recipe
from tests.launch.doctor.network import Network, key, network

pytestmark = pytest.mark.usefixtures("namespaces")
QUICK = ("bandwidth",)
FAKETIME = "*/faketime/libfaketime.so.1"


@pytest.fixture
def two(tmp_path: Path) -> Iterator[Network]:
    """`node-a` and `node-b`, healthy."""
    with network(tmp_path, ["node-a", "node-b"]) as found:
        yield found


def examined(hosts: Network, *arguments: str, skip: tuple[str, ...] = QUICK) -> Report:
    """What the doctor says on the first machine."""
    inside = hosts["node-a"].inside
    return doctor(
        *arguments, "--hostfile", "hostfile", folder=hosts.folder, inside=inside, skip=skip
    )


def test_healthy_hosts_have_no_finding(two: Network) -> None:
    recipe(two.folder, two.folder / "runs")
    (two.folder / "runs").mkdir()
    found = examined(two, "small.toml", skip=())
    assert found.lines == []
    assert found.hosts == ["node-a", "node-b"]
    assert {"bandwidth", "links", "clock", "shared", "names", "leftovers"} <= set(found.checks)
    assert list((two.folder / "runs").iterdir()) == []


def test_no_ssh_server(two: Network) -> None:
    two["node-b"].stop_sshd()
    line = examined(two).only("fault", "reach")
    assert line.where == "node-b"
    assert line.what.startswith("no ssh server listens there (")
    assert line.fix.startswith("`systemctl enable --now ssh` on it")


def test_a_host_key_that_is_not_known(two: Network) -> None:
    known = two.folder / "known_hosts"
    known.write_text(known.read_text().splitlines(keepends=True)[0])
    line = examined(two).only("fault", "reach")
    assert line.what.startswith("its ssh host key is not known here (")
    assert line.fix == "`ssh-keyscan -H node-b >> ~/.ssh/known_hosts`"


def test_another_host_key_than_known(two: Network) -> None:
    key(two["node-b"].folder / "host_key")
    two["node-b"].restart_sshd()
    line = examined(two).only("fault", "reach")
    assert line.what.startswith("its ssh host key is another than the one known here (")
    assert "`ssh-keygen -R node-b; ssh-keyscan -H node-b" in line.fix


def test_a_key_that_is_refused(two: Network) -> None:
    config = two["node-b"].folder / "sshd_config"
    two["node-b"].stop_sshd()
    refusing = two.folder / "user_key.pub"
    kept = refusing.read_text()
    refusing.write_text("")
    two["node-b"].start_sshd()
    assert str(refusing) in config.read_text()
    # The first host still takes it, from a file of its own.
    own = two["node-a"].folder / "authorized"
    own.write_text(kept)
    two["node-a"].run("mount", "--bind", own, refusing)
    line = examined(two).only("fault", "reach")
    assert line.where == "node-b"
    assert line.what.startswith("ssh refuses our key (")
    assert line.fix.startswith("`ssh-copy-id node-b`")


def test_a_name_that_does_not_exist(two: Network) -> None:
    with two.hostfile.open("a") as file:
        file.write("node-z.invalid slots=1\n")
    found = examined(two)
    line = found.only("fault", "reach")
    assert line.what.startswith("its name has no address (")
    assert "/etc/hosts on every host" in line.fix


def test_a_host_that_is_off(two: Network) -> None:
    """Nobody answers: costs the time-out of ssh, not more."""
    two["switch"].run("ip", "link", "set", "to-node-b", "down")
    began = time.monotonic()
    line = examined(two).only("fault", "reach")
    assert time.monotonic() - began < 60
    assert line.what.startswith("it cannot be reached (")
    assert "TCP port 22" in line.fix


def test_no_python_there(two: Network) -> None:
    two["node-b"].run("mount", "-t", "tmpfs", "none", Path(sys.prefix))
    line = examined(two).only("fault", "reach")
    assert line.what.startswith("this Python does not start there (")
    assert f"install the same environment at {sys.executable} on it" in line.fix


def test_no_textmill_there(two: Network) -> None:
    """Its installation is hidden, and the working folder is no checkout."""
    (empty,) = (two["node-b"].folder / "empty",)
    empty.mkdir()
    two["node-b"].run("mount", "--bind", empty, ROOT / "launch")
    line = examined(two).only("fault", "reach")
    assert line.what.startswith("its Python has no Textmill of this version (")
    assert "-m pip install -e " in line.fix


def test_a_login_that_talks(two: Network) -> None:
    noise = two.folder / "noise.sh"
    noise.write_text("echo Welcome to node-b\n")
    two["node-b"].run("mount", "--bind", noise, "/etc/bash.bashrc")
    line = examined(two).only("warning", "reach")
    assert line.what.endswith("'Welcome to node-b'")
    assert "`[[ $- == *i* ]] || return`" in line.fix


def test_another_version_there(two: Network) -> None:
    metadata = two.folder / "site" / "numpy-2.0.1.dist-info" / "METADATA"
    metadata.parent.mkdir(parents=True)
    metadata.write_text("Metadata-Version: 2.1\nName: numpy\nVersion: 2.0.1\n")
    two["node-b"].restart_sshd(PYTHONPATH=str(two.folder / "site"))
    line = examined(two).only("fault", "versions")
    assert line.where == "node-b"
    assert line.what.startswith("numpy is 2.0.1, elsewhere ")
    assert " -m pip install numpy==" in line.fix


def test_another_checkout_there(two: Network) -> None:
    """A copy of Textmill in which one line differs, first on the path of one host."""
    copy = two.folder / "copy"
    for name in ("runtime", "data_prep", "pretrain", "finetune", "launch", "ds_configs"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    with (copy / "pretrain" / "train.py").open("a") as file:
        file.write("# changed\n")
    two["node-b"].restart_sshd(PYTHONPATH=str(copy))
    line = examined(two).only("fault", "source")
    assert line.where == "node-b"
    assert line.what.startswith(f"its Textmill in {copy} (no commit) is another than in {ROOT}")
    assert line.fix.startswith(f"`rsync -a --delete node-a:{ROOT}/ {copy}/` on it")


def test_a_working_folder_that_is_not_there(two: Network) -> None:
    (two.folder / "project").mkdir()
    recipe(two.folder / "project", two.folder / "runs")
    two["node-b"].run("mount", "--bind", two["node-b"].folder, two.folder / "project")
    (two.folder / "runs").mkdir()
    found = examined(two, "project/small.toml")
    line = found.only("fault", "folder")
    assert line.where == "node-b"
    assert line.what == f"the recipe {two.folder}/project/small.toml is missing there"
    assert line.fix.startswith(f"`scp node-a:{two.folder}/project/small.toml ")


def test_a_folder_that_is_not_shared(two: Network) -> None:
    (two.folder / "runs").mkdir()
    recipe(two.folder, two.folder / "runs")
    two["node-b"].run("mount", "-t", "tmpfs", "none", two.folder / "runs")
    line = examined(two, "small.toml").only("fault", "shared")
    assert line.where == "node-b"
    assert line.what == (
        f"{two.folder}/runs is another folder there than on node-a: files of one do not appear on "
        "the other"
    )
    assert f"mount the shared file system at {two.folder}/runs on it" in line.fix
    assert two["node-b"].run("ls", "-A", two.folder / "runs") == ""


def test_a_folder_that_one_host_may_not_write(two: Network) -> None:
    (two.folder / "runs").mkdir()
    recipe(two.folder, two.folder / "runs")
    two["node-b"].run("mount", "--bind", two.folder / "runs", two.folder / "runs")
    two["node-b"].run("mount", "-o", "remount,bind,ro", two.folder / "runs")
    line = examined(two, "small.toml").only("fault", "shared")
    assert (line.where, line.what) == (
        "node-b",
        f"{two.folder}/runs cannot be written (Read-only file system)",
    )


def test_a_name_that_leads_back_to_its_own_machine(two: Network) -> None:
    """Debian's `127.0.1.1 NAME`, until an interface is named in the environment file."""
    hosts = two["node-b"].folder / "hosts"
    hosts.write_text(f"127.0.0.1 localhost\n127.0.1.1 node-b\n{two['node-a'].address} node-a\n")
    line = examined(two).only("fault", "names")
    assert line.where == "node-b"
    assert line.what.startswith("its own name node-b leads to 127.0.1.1")
    assert "set GLOO_SOCKET_IFNAME in the environment file" in line.fix
    (two.folder / ".deepspeed_env").write_text("GLOO_SOCKET_IFNAME=eth0\n")
    assert examined(two).lines == []


def test_a_host_that_does_not_know_the_first(two: Network) -> None:
    (two["node-b"].folder / "hosts").write_text(f"{two['node-b'].address} node-b\n")
    line = examined(two).only("fault", "names")
    assert (line.where, line.what) == ("node-b", "the name node-a has no address there")
    assert "`ADDRESS node-a` to /etc/hosts" in line.fix


def test_a_firewall(two: Network) -> None:
    """ssh passes, all else is dropped, as a default policy does."""
    if shutil.which("nft") is None:
        debian.install_or_skip(["nftables"])
    for line in (
        "add table inet filter",
        "add chain inet filter input { type filter hook input priority 0; policy drop; }",
        "add rule inet filter input ct state established accept",
        "add rule inet filter input tcp dport 22 accept",
    ):
        two["node-b"].run("nft", line)
    found = examined(two, skip=()).only("fault", "links")
    assert found.where == "node-a -> node-b"
    assert found.what == "ranks could not connect (timed out)"
    assert "let node-b's firewall accept all TCP ports from node-a" in found.fix


def test_packets_that_are_too_large_for_the_way(two: Network) -> None:
    """A switch with a smaller MTU than the hosts, and no ICMP to tell them."""
    for name in ("node-a", "node-b"):  # without segments, which are cut behind the switch
        two[name].run("ip", "link", "set", "eth0", "mtu", "9000", "gso_max_segs", "1")
        two["switch"].run("ip", "link", "set", f"to-{name}", "mtu", "4500")
    line = examined(two).only("fault", "links")
    assert line.where == "node-a -> node-b, node-b -> node-a"
    assert "the MTU between them is smaller" in line.what
    assert "mtu 1500" in line.fix


def test_a_clock_that_is_wrong(two: Network) -> None:
    if not list(Path("/usr/lib").glob(FAKETIME)):
        debian.install_or_skip(["libfaketime"])
    (library,) = Path("/usr/lib").glob(FAKETIME)
    two["node-b"].restart_sshd(
        LD_PRELOAD=str(library), FAKETIME="+90", FAKETIME_DONT_FAKE_MONOTONIC="1"
    )
    line = examined(two, "--only", "reach", "clock").only("fault", "clock")
    assert line.where == "node-b"
    assert re.fullmatch(r"its clock is (89\.9|90\.[01]) s ahead of the others", line.what)
    assert "chronyc makestep" in line.fix


def test_one_machine_twice(two: Network) -> None:
    """By an alias; both names lead to the first host."""
    names = two["node-a"].folder / "hosts"
    names.write_text(names.read_text() + f"{two['node-a'].address} alias\n")
    known = two.folder / "known_hosts"
    known.write_text(
        known.read_text() + known.read_text().splitlines()[0].replace("node-a", "alias") + "\n"
    )
    two.hostfile.write_text("node-a slots=1\nalias slots=1\n")
    line = examined(two).only("fault", "machines")
    assert line.where == "alias"
    assert line.what.startswith("it is the same machine as node-a")


def test_other_devices_there(two: Network) -> None:
    two["node-b"].restart_sshd(CUDA_VISIBLE_DEVICES="1")
    line = examined(two).only("warning", "variables")
    assert line.what == "CUDA_VISIBLE_DEVICES is 1, elsewhere not set"


def test_the_port_of_the_first_host(two: Network) -> None:
    code = (
        "import socket, time; held = socket.create_server(('', 29500)); print('held', flush=True); "
        "time.sleep(600)"
    )
    command = [*two["node-a"].inside, sys.executable, "-c", code]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as holder:
        try:
            assert holder.stdout is not None
            assert holder.stdout.readline() == b"held\n"
            line = examined(two).only("fault", "ports")
        finally:
            holder.kill()
    assert line.where == "node-a"
    assert line.what.startswith("port 29500, at which ranks meet, is taken by process ")


def test_secrets_of_the_environment_stay_out_of_command_lines(two: Network) -> None:
    """They reach the probe (here it says so by what it finds), and nobody who lists processes."""
    (two.folder / ".deepspeed_env").write_text("HF_TOKEN=hf_secret\nCUDA_LAUNCH_BLOCKING=1\n")
    found = examined(two).only("warning", "variables")
    assert found.where == "node-a, node-b"
    from launch.doctor.opening import command
    from launch.doctor.plan import Host, Plan

    plan = Plan((Host("node-b", 1),), "ssh", environment={"HF_TOKEN": "hf_secret"})
    assert "hf_secret" not in " ".join(command(plan, "node-b"))
    assert "hf_secret" not in str(plan.to_json())


def test_a_variable_that_the_launcher_forwards(
    two: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From here, where it is right, to hosts, where it is not."""
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "eth77")
    found = examined(two, "--only", "interfaces")
    assert [(line.level, line.check) for line in found.lines] == [("fault", "interfaces")]
    assert found.lines[0].where == "node-a, node-b"
    assert found.lines[0].what == "GLOO_SOCKET_IFNAME=eth77, but there is no such interface"


@pytest.mark.soak
def test_a_slow_link_is_named(tmp_path: Path) -> None:
    """One host of three sends at 40 Mbit/s."""
    with network(tmp_path, ["node-a", "node-b", "node-c"]) as hosts:
        limit = ("rate", "40mbit", "burst", "64k", "latency", "200ms")
        hosts["node-c"].run("tc", "qdisc", "add", "dev", "eth0", "root", "tbf", *limit)
        line = examined(hosts, "--only", "reach", "bandwidth", skip=()).only("warning", "bandwidth")
    assert line.where == "node-c"
    assert "GB/s over all hosts (gloo; at least 0.1 is usual)" in line.what
    assert "ethtool" in line.fix
