"""Hosts with another interpreter or another user, planted for real."""

import platform
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.launch.doctor.examined import ROOT, Report, doctor
from tests.launch.doctor.network import Network, network

pytestmark = pytest.mark.usefixtures("namespaces")
PLACES = ("/usr/bin", "/usr/local/bin", "/root/.pyenv/versions/*/bin", "/opt/*/bin")


@pytest.fixture
def two(tmp_path: Path) -> Iterator[Network]:
    """`node-a` and `node-b`, healthy."""
    with network(tmp_path, ["node-a", "node-b"]) as found:
        yield found


def examined(hosts: Network, *checks: str) -> Report:
    inside = hosts["node-a"].inside
    arguments = ("--hostfile", "hostfile", "--only", *checks)
    return doctor(*arguments, folder=hosts.folder, inside=inside, skip=())


def interpreters() -> dict[Path, str]:
    """Other Pythons of this machine, with their versions."""
    found = {}
    for place in PLACES:
        for path in sorted(Path("/").glob(f"{place[1:]}/python3.*")):
            if not path.suffix[1:].isdigit():
                continue
            line = [str(path), "-c", "import platform; print(platform.python_version())"]
            told = subprocess.run(line, capture_output=True, text=True)
            if not told.returncode and told.stdout.strip() != platform.python_version():
                found[path] = told.stdout.strip()
    return found


def plant(hosts: Network, interpreter: Path) -> None:
    """In the place of the environment's Python on the second host; its packages stay."""
    own = hosts["node-b"].folder / "python"
    packages = f"{ROOT}:{sysconfig.get_path('purelib')}"
    own.write_text(f'#!/bin/sh\nPYTHONPATH={packages} exec {interpreter} "$@"\n')
    own.chmod(0o755)
    hosts["node-b"].run("mount", "--bind", own, Path(sys.executable).resolve())


def test_another_python_there(two: Network) -> None:
    """One that can run the probe: of the same minor version, or newer."""
    wanted = platform.python_version_tuple()[:2]
    fitting = [
        (path, version)
        for path, version in interpreters().items()
        if tuple(version.split(".")[:2]) == wanted
    ]
    if not fitting:
        pytest.skip("there is no other Python of this minor version here")
    interpreter, version = fitting[0]
    plant(two, interpreter)
    line = examined(two, "reach", "versions").only("fault", "versions")
    assert line.where == "node-b"
    assert line.what == f"python is {version}, elsewhere {platform.python_version()}"
    assert line.fix.endswith(f" anew with Python {platform.python_version()}")


def test_a_python_that_is_too_old(two: Network) -> None:
    old = [
        path for path, version in interpreters().items() if int(version.split(".")[1]) in (9, 10)
    ]
    if not old:
        pytest.skip("there is no Python before 3.11 here")
    plant(two, old[0])
    line = examined(two, "reach").only("fault", "reach")
    assert line.where == "node-b"
    assert line.what.startswith(f"its Python at {sys.executable} is too old for Textmill (")
    assert line.fix == f"make that environment anew with Python {platform.python_version()}"


def test_another_group_there(two: Network) -> None:
    """The ssh configuration names a user whose group has another number on that host."""
    users = two.folder / "passwd"
    users.write_text(Path("/etc/passwd").read_text() + "mill:x:0:4242::/tmp:/bin/sh\n")
    two["node-b"].run("mount", "--bind", users, "/etc/passwd")
    config = two["node-a"].folder / "ssh_config"
    config.write_text(f"Host node-b\n    User mill\nHost *\n{config.read_text()}")
    line = examined(two, "reach", "user").only("fault", "user")
    assert line.where == "node-b"
    assert line.what.endswith("has user and group id 0:4242, elsewhere 0:0")
    assert "`usermod -u 0 -g 0 " in line.fix


def test_a_file_of_the_doctor_goes_when_its_connection_ends(tmp_path: Path) -> None:
    """The probe has written and is not asked to remove: its input ends, as when ssh breaks off."""
    from launch.doctor.conversation import Conversation
    from launch.doctor.opening import command
    from launch.doctor.plan import Host, Plan

    plan = Plan((Host("here"),), folder=str(tmp_path))
    first = {"environment": {}, "folder": plan.folder, "host": "here", "plan": plan.to_json()}
    probe = Conversation("here", command(plan, "here"), first)
    try:
        probe.ask("shared", "write", {"token": "abc"}).result(60)
        assert [path.name for path in tmp_path.iterdir()] == [".textmill-doctor-abc-here"]
    finally:
        probe.close()
    assert list(tmp_path.iterdir()) == []
