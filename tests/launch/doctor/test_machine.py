"""Faults of one machine, planted for real: each is found by one line that says the fix."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.launch.doctor.examined import doctor, recipe
from tests.ranks import free_port, wait_for

pytestmark = pytest.mark.usefixtures("namespaces")
OWN_PROCESSES = ("unshare", "--pid", "--fork", "--kill-child=KILL", "--mount-proc", "--mount")


def shell(*lines: str, flags: tuple[str, ...] = ("--mount",)) -> list[str]:
    """The doctor after these commands, with mounts of its own."""
    return ["unshare", *flags, "sh", "-ec", "\n".join([*lines, 'exec "$@"']), "sh"]


def test_a_healthy_machine_has_no_finding(tmp_path: Path) -> None:
    recipe(tmp_path, tmp_path / "runs")
    inside = [*OWN_PROCESSES, "sh", "-ec", 'mount -t tmpfs none /dev/shm; "$@"', "sh"]
    found = doctor("small.toml", folder=tmp_path, inside=inside, skip=())
    assert found.lines == []
    assert found.exit_code == 0
    assert {"leftovers", "run_locks", "recipe", "disk"} <= set(found.checks)
    assert [path.name for path in tmp_path.iterdir()] == ["small.toml"]


def test_a_module_in_the_place_of_torch(tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "torch.py").write_text("")
    found = doctor(folder=tmp_path, environment={"PYTHONPATH": str(tmp_path / "site")})
    line = found.only("fault", "shadows")
    assert f"`import torch` finds {tmp_path}/site/torch.py" in line.what
    assert "PYTHONPATH" in line.fix


def test_a_package_too_old(tmp_path: Path) -> None:
    metadata = tmp_path / "site" / "deepspeed-0.14.0.dist-info" / "METADATA"
    metadata.parent.mkdir(parents=True)
    metadata.write_text("Metadata-Version: 2.1\nName: deepspeed\nVersion: 0.14.0\n")
    found = doctor(folder=tmp_path, environment={"PYTHONPATH": str(tmp_path / "site")})
    line = found.only("fault", "versions")
    assert line.what == "Textmill needs deepspeed<0.20,>=0.19.8, there is 0.14.0"
    assert "pip install 'deepspeed<0.20,>=0.19.8'" in line.fix


@pytest.mark.parametrize("variable", ["GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"])
def test_an_interface_that_does_not_exist(tmp_path: Path, variable: str) -> None:
    found = doctor(folder=tmp_path, environment={variable: "eth77"})
    line = found.only("fault", "interfaces")
    assert line.what == f"{variable}=eth77, but there is no such interface"
    assert f"set {variable} in the environment to one of: " in line.fix


def test_an_interface_that_is_down(tmp_path: Path) -> None:
    inside = shell("ip link add dummy7 type veth peer name dummy8", flags=("--net",))
    found = doctor(folder=tmp_path, inside=inside, environment={"GLOO_SOCKET_IFNAME": "dummy7"})
    line = found.only("fault", "interfaces")
    assert line.what == "GLOO_SOCKET_IFNAME=dummy7, but dummy7 is down or has no address"
    assert line.fix.startswith("`ip link set dev dummy7 up` on it")


def test_a_port_that_is_taken(tmp_path: Path) -> None:
    with socket.create_server(("", 0)) as server:
        port = server.getsockname()[1]
        found = doctor(folder=tmp_path, environment={"MASTER_PORT": str(port)})
    line = found.only("fault", "ports")
    assert f"port {port}, at which ranks meet, is taken by process {os.getpid()} (" in line.what
    assert "choose another port" in line.fix


def test_a_port_that_is_free_again(tmp_path: Path) -> None:
    """Connections of the last run may still be closing; that keeps nobody from listening."""
    port = free_port()
    with socket.create_server(("127.0.0.1", port)) as server:
        client = socket.create_connection(("127.0.0.1", port))
        accepted, _ = server.accept()
        accepted.close()  # first: TIME_WAIT is on the side of the port
        client.close()
    assert doctor(folder=tmp_path, environment={"MASTER_PORT": str(port)}).lines == []


def test_a_disk_too_small(tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    recipe(tmp_path, tmp_path / "runs" / "one")
    found = doctor(
        "small.toml",
        folder=tmp_path,
        inside=shell(f"mount -t tmpfs -o size=64m none {tmp_path}/runs"),
    )
    line = found.only("fault", "disk")
    assert line.what == f"{tmp_path}/runs has 67.1 MB free, 1.0 GB will be needed"
    assert f"du -xh --max-depth=2 {tmp_path}/runs" in line.fix


def test_checkpoints_that_will_not_fit(tmp_path: Path) -> None:
    """24 layers of 1024 and a vocabulary of 32,768: 327.7 million parameters, four checkpoints of
    16 bytes each and an export of 4."""
    (tmp_path / "runs").mkdir()
    sizes = ("num_layers = 2", "num_layers = 24"), ("hidden_size = 64", "hidden_size = 1024")
    more = ("intermediate_size = 128", "intermediate_size = 2624")
    recipe(tmp_path, tmp_path / "runs", *sizes, more)
    found = doctor(
        "small.toml",
        folder=tmp_path,
        inside=shell(f"mount -t tmpfs -o size=4g none {tmp_path}/runs"),
    )
    assert "has 4.3 GB free, 22.3 GB will be needed" in found.only("fault", "disk").what


def test_a_file_system_without_inodes(tmp_path: Path) -> None:
    (tmp_path / "tmp").mkdir()
    found = doctor(
        folder=tmp_path,
        environment={"TMPDIR": str(tmp_path / "tmp")},
        inside=shell(f"mount -t tmpfs -o nr_inodes=50 none {tmp_path}/tmp"),
    )
    line = found.only("fault", "disk")
    assert line.what == f"the file system of {tmp_path}/tmp can hold only 49 more files"
    assert "TMPDIR" in line.fix


def test_little_shared_memory(tmp_path: Path) -> None:
    inside = shell("mount -t tmpfs -o size=64m none /dev/shm")
    line = doctor(folder=tmp_path, inside=inside).only("warning", "shared_memory")
    assert line.what == "/dev/shm has 64 of 64 MiB free, ranks may need 128 MiB"
    assert "--shm-size=8g" in line.fix


def test_nothing_can_be_executed_in_tmp(tmp_path: Path) -> None:
    (tmp_path / "tmp").mkdir()
    found = doctor(
        folder=tmp_path,
        environment={"TMPDIR": str(tmp_path / "tmp")},
        inside=shell(f"mount -t tmpfs -o noexec none {tmp_path}/tmp"),
    )
    line = found.only("warning", "temporary")
    assert line.fix.startswith(f"`mount -o remount,exec {tmp_path}/tmp` on it")


def test_built_extensions_cannot_be_loaded(tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir()
    found = doctor(
        folder=tmp_path,
        environment={"TORCH_EXTENSIONS_DIR": str(tmp_path / "cache" / "extensions")},
        inside=shell(f"mount -t tmpfs -o noexec none {tmp_path}/cache"),
    )
    line = found.only("fault", "temporary")
    assert f"TORCH_EXTENSIONS_DIR={tmp_path}/cache/extensions is mounted noexec" in line.what
    assert "remount,exec" in line.fix


def test_an_output_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    recipe(tmp_path, tmp_path / "runs")
    lines = (f"mount --bind {tmp_path}/runs {tmp_path}/runs",)
    inside = shell(*lines, f"mount -o remount,bind,ro {tmp_path}/runs")
    found = doctor("small.toml", folder=tmp_path, inside=inside)
    line = found.only("fault", "shared")
    assert line.what == f"{tmp_path}/runs cannot be written (Read-only file system)"
    assert "chown" in line.fix


def test_too_few_open_files(tmp_path: Path) -> None:
    found = doctor(folder=tmp_path, inside=["prlimit", "--nofile=200:200"])
    line = found.only("fault", "limits")
    assert line.what == "a process may open 200 files (`ulimit -n`), ranks may need 272"
    assert "`* - nofile 65536` to /etc/security/limits.conf" in line.fix


def test_too_few_processes(tmp_path: Path) -> None:
    found = doctor(folder=tmp_path, inside=["prlimit", "--nproc=300:300"])
    line = found.only("fault", "limits")
    assert "300 processes and threads (`ulimit -u`), ranks may need 576" in line.what
    assert "`* - nproc 65536`" in line.fix


@pytest.fixture
def groups() -> Iterator[dict[str, Path]]:
    """A control group of our own for CPU and for memory."""
    root = Path("/sys/fs/cgroup")
    is_new = (root / "cgroup.controllers").is_file()
    tops = (
        dict.fromkeys(("cpu", "memory"), root)
        if is_new
        else {n: root / n for n in ("cpu", "memory")}
    )
    made = {}
    for name, top in tops.items():
        if is_new and name not in (top / "cgroup.subtree_control").read_text().split():
            pytest.skip(f"control groups do not hand {name} on here")
        made[name] = top / f"textmill-{name}-{os.getpid()}"
        try:
            made[name].mkdir()
        except OSError as error:
            pytest.skip(f"no control group can be made here ({error.strerror})")
    yield made
    for folder in made.values():
        members = folder / "cgroup.procs"
        wait_for(partial(lambda path: not path.read_text(), members), "it to be empty")
        folder.rmdir()


def within(group: Path) -> list[str]:
    """The doctor as a member of a control group."""
    return ["sh", "-ec", f'echo $$ > {group}/cgroup.procs; exec "$@"', "sh"]


def test_a_control_group_with_little_memory(tmp_path: Path, groups: dict[str, Path]) -> None:
    group = groups["memory"]
    name = "memory.max" if (group / "memory.max").exists() else "memory.limit_in_bytes"
    (group / name).write_text(str(700 << 20))
    recipe(tmp_path, tmp_path / "runs")
    found = doctor("small.toml", folder=tmp_path, inside=within(group))
    line = found.only("fault", "memory")
    assert line.what.startswith("a control group leaves 0.")
    assert line.what.endswith("2 ranks begin with about 2.0 GiB")
    assert "`sbatch --mem`" in line.fix


def test_a_control_group_with_little_time(tmp_path: Path, groups: dict[str, Path]) -> None:
    group, cores = groups["cpu"], os.cpu_count() or 1
    half = cores * 100_000 // 2
    if (group / "cpu.max").exists():
        (group / "cpu.max").write_text(f"{half} 100000")
    else:
        (group / "cpu.cfs_quota_us").write_text(str(half))
    line = doctor(folder=tmp_path, inside=within(group)).only("warning", "cores")
    assert f"a control group allows the time of {cores / 2:g} of {cores} cores" in line.what
    assert f"engine.threads_per_rank = {cores // 2}" in line.fix


def test_bound_to_one_core(tmp_path: Path) -> None:
    recipe(tmp_path, tmp_path / "runs")
    found = doctor("small.toml", folder=tmp_path, inside=["taskset", "--cpu-list", "0"])
    line = found.only("warning", "cores")
    assert line.what == f"2 ranks share 1 cores (it is bound to 1 of {os.cpu_count()} cores)"
    assert line.fix.startswith("start 1 ranks there")


def test_threads_for_more_cores_than_there_are(tmp_path: Path) -> None:
    many = 4 * (os.cpu_count() or 1)
    line = doctor(folder=tmp_path, environment={"OMP_NUM_THREADS": str(many)}).only(
        "warning", "cores"
    )
    assert line.what.startswith(f"OMP_NUM_THREADS={many} for 1 ranks")
    assert "unset OMP_NUM_THREADS" in line.fix


def test_text_that_is_not_utf8(tmp_path: Path) -> None:
    plain = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    line = doctor(folder=tmp_path, environment=plain).only("fault", "encoding")
    assert line.what == "Python reads text as ascii and file names as ascii there"
    assert "`LC_ALL=C.UTF-8`" in line.fix


def test_the_lock_of_a_killed_build(tmp_path: Path) -> None:
    """By the code that makes it in torch, in a process that is killed as a build would be."""
    lock = tmp_path / "extensions" / "fused_adam" / "lock"
    lock.parent.mkdir(parents=True)
    torch = find_spec("torch")
    assert torch is not None
    assert torch.origin is not None
    baton = Path(torch.origin).parent / "utils" / "file_baton.py"
    code = (
        f"import runpy, time; baton = runpy.run_path({str(baton)!r})['FileBaton']; "
        f"assert baton({str(lock)!r}).try_acquire(); print('held', flush=True); time.sleep(600)"
    )
    cache = {"TORCH_EXTENSIONS_DIR": str(tmp_path / "extensions")}
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as build:
        try:
            assert build.stdout is not None
            assert build.stdout.readline() == b"held\n"
            assert doctor(folder=tmp_path, environment=cache).lines == []
        finally:
            build.kill()
    line = doctor(folder=tmp_path, environment=cache).only("fault", "jit_locks")
    assert f"{lock} is left from a build that was killed" in line.what
    assert line.fix == f"`rm {lock}` on it"


def test_a_rank_without_its_launcher(tmp_path: Path) -> None:
    """In a process tree of its own, where what loses its parent becomes the child of process 1."""
    (tmp_path / "pretrain.py").write_text(
        "import pathlib, time; pathlib.Path('started').touch(); time.sleep(600)"
    )
    script = [
        "mount -t tmpfs none /dev/shm",
        f"(RANK=0 {sys.executable} -m pretrain &)",
        "until [ -e started ]; do sleep 0.1; done",
        "rm pretrain.py started",
        '"$@"',
    ]
    inside = [*OWN_PROCESSES, "sh", "-ec", "\n".join(script), "sh"]
    line = doctor(folder=tmp_path, inside=inside, skip=()).only("fault", "leftovers")
    assert "is a rank whose launcher is gone: " in line.what
    assert line.what.endswith("-m pretrain")
    assert line.fix == f"`kill {line.what.split()[1]}` on it, which lets it save; " + (
        f"`kill -9 {line.what.split()[1]}` if it does not end"
    )


def test_shared_memory_of_a_dead_run(tmp_path: Path) -> None:
    """One segment is mapped by a process that lives, the other by nobody."""
    code = (
        "import mmap, time; file = open('/dev/shm/torch_1_1_0', 'r+b'); "
        "held = mmap.mmap(file.fileno(), 0); file.close(); open('started', 'w'); time.sleep(600)"
    )
    script = [
        "mount -t tmpfs none /dev/shm",
        "truncate -s 1M /dev/shm/torch_1_1_0 /dev/shm/torch_2_2_0",
        f'{sys.executable} -c "{code}" &',
        "until [ -e started ]; do sleep 0.1; done",
        '"$@"',
    ]
    inside = [*OWN_PROCESSES, "sh", "-ec", "\n".join(script), "sh"]
    line = doctor(folder=tmp_path, inside=inside, skip=()).only("warning", "leftovers")
    assert line.what == "1 segments of shared memory of ended processes hold 1.0 MB"
    assert line.fix == "`rm /dev/shm/torch_2_2_0` on it"


@pytest.mark.parametrize(
    ("variable", "value", "level", "words"),
    [
        ("RANK", "3", "fault", "takes itself for a rank"),
        ("CUDA_LAUNCH_BLOCKING", "1", "warning", "makes every kernel wait"),
        ("TORCH_DISTRIBUTED_DEBUG", "DETAIL", "warning", "checks every collective"),
        ("HTTP_PROXY", "http://proxy:3128", "warning", "a proxy is asked for localhost"),
    ],
)
def test_a_variable_of_the_login(
    tmp_path: Path, variable: str, value: str, level: str, words: str
) -> None:
    clean = dict.fromkeys(("NO_PROXY", "no_proxy"), "")
    line = doctor(folder=tmp_path, environment={**clean, variable: value}).only(level, "variables")
    assert words in line.what
    assert ("NO_PROXY=localhost" if "PROXY" in variable else f"`unset {variable}") in line.fix


def test_a_file_system_that_hangs(tmp_path: Path) -> None:
    """A named pipe that nobody writes to stands for it: opening it waits for ever. All else is
    looked at all the same."""
    lock = tmp_path / "runs" / "locks" / "pretrain.json"
    lock.parent.mkdir(parents=True)
    os.mkfifo(lock)
    recipe(tmp_path, tmp_path / "runs")
    code = (
        "import sys; from launch.doctor import party; party.SECONDS = 3.0; "
        "from launch.__main__ import main; sys.exit(main())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "doctor", "small.toml", "--skip", "leftovers"],
        cwd=tmp_path, capture_output=True, text=True, timeout=180,
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    faults = [line for line in done.stdout.splitlines() if line.startswith("fault")]
    assert len(faults) == 1
    assert "`run_locks` got no answer within 3 s" in faults[0]
    assert "fix: look for processes in state D" in faults[0]
    assert "ok" in done.stdout


def test_nothing_stays_when_it_is_interrupted(tmp_path: Path) -> None:
    """Ctrl-C in the middle: the probe ends, and no file of it is left."""
    lock = tmp_path / "runs" / "locks" / "pretrain.json"
    lock.parent.mkdir(parents=True)
    os.mkfifo(lock)  # where it stands still
    recipe(tmp_path, tmp_path / "runs")
    process = subprocess.Popen(
        [sys.executable, "-m", "launch", "doctor", "small.toml", "--only", "shared", "run_locks"],
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    wait_for(lambda: bool(children.read_text().split()), "the probe")
    probe = int(children.read_text().split()[0])
    time.sleep(2)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130
    wait_for(lambda: not Path(f"/proc/{probe}").exists(), "the probe to end")
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == ["locks"]
