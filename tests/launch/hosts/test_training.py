"""The same recipe on two hosts, by both launchers: the ledgers and weights of the local run."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.launch.hosts import nasty
from tests.launch.hosts.pretend_run import only
from tests.pretrain.conftest import prepared
from tests.pretrain.runs import assert_same, finished, metrics_reach
from tests.ranks import run_ranks
from tests.two_hosts import CABLE, TwoHosts, two_hosts

__all__ = ["prepared", "two_hosts"]  # fixtures
pytestmark = [pytest.mark.slow, pytest.mark.distributed]
TABLES = """
[tasks.craft]
kind = "classification"
train = "craft.jsonl"
valid = "craft.jsonl"
epochs = 1
max_length = 16
batch_size = 16
micro_batch_size = 4
control_random_init = false
"""
OVERRIDES = ("train.total_tokens=24576", "watchdog.min_seconds=20")
ROWS = [("moss and fern in the shade", "plant"), ("the keel and the mast", "ship")] * 16
TASK = "run/finetune/craft"
LEDGERS = ("seed-0/ledger/rank-00000.jsonl", "seed-0/ledger/rank-00001.jsonl")


@pytest.fixture(scope="module")
def local(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The uninterrupted run of 2 ranks on this machine: pretraining and a task."""
    folder = tmp_path_factory.mktemp("local") / "workplace"
    shutil.copytree(prepared, folder)
    with (folder / "recipe.toml").open("a") as file:
        file.write(TABLES)
    rows = (
        f'{{"text": "{text} {i}", "label": "{label}"}}\n' for i, (text, label) in enumerate(ROWS)
    )
    (folder / "craft.jsonl").write_text("".join(rows))
    shutil.copytree(folder, folder.with_name("untrained"))
    finished(folder, 2, *OVERRIDES)
    done = run_ranks(["-m", "finetune", "recipe.toml", *OVERRIDES], 2, folder)
    assert done.exit_codes == [0, 0], done.text
    return folder


@pytest.fixture
def workplace(local: Path, tmp_path: Path) -> Path:
    """The folder as it was before."""
    folder = tmp_path / "workplace"
    shutil.copytree(local.with_name("untrained"), folder)
    return folder


def assert_same_task(ours: Path, theirs: Path) -> None:
    """The same steps, bit by bit, and the same model."""
    for name in (*LEDGERS, "export/model.safetensors"):
        assert (ours / TASK / name).read_bytes() == (theirs / TASK / name).read_bytes(), name


def test_hosts_give_what_one_machine_gives_although_a_rank_is_lost(
    two_hosts: TwoHosts, local: Path, workplace: Path
) -> None:
    hostfile = two_hosts.hostfile(workplace)
    command = ["-m", "launch", "run", "recipe.toml", "--launcher", "deepspeed"]
    options = ["--hostfile", hostfile.name, *OVERRIDES, "launch.restarts=1"]
    process = two_hosts.start([*command, *options], workplace)
    try:
        metrics_reach(workplace, 6)
        only(two_hosts.running("node-02", "-m", "pretrain", "recipe.toml")).kill()
        output, _ = process.communicate(timeout=400)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0, output
    assert "pretrain: starting, 2 ranks on node-01, node-02" in output
    assert "textmill: rank 1 on node-02 ended with SIGKILL" in output
    assert output.count("starting again from its last checkpoint, restart 1 of 1") == 1
    assert_same(workplace, local)
    assert_same_task(workplace, local)
    two_hosts.nothing_left()


def plain(two_hosts: TwoHosts, stage: str, folder: Path) -> subprocess.Popen[str]:
    """A stage by the plain `deepspeed` command."""
    runner = str(Path(sys.executable).with_name("deepspeed"))
    options = ["--quiet", "--hostfile", "hostfile", "--no_local_rank", "--module"]
    # With blanks around `=` an override is quoted on its way, else its quotes are lost.
    overrides = [*OVERRIDES, 'engine.ds_config = "cpu"']
    return two_hosts.start([runner, *options, stage, "recipe.toml", *overrides], folder)


def test_the_plain_deepspeed_command_gives_the_same(
    two_hosts: TwoHosts, local: Path, workplace: Path
) -> None:
    two_hosts.hostfile(workplace)
    names = ("DS_ACCELERATOR", "OMP_NUM_THREADS", "TORCH_EXTENSIONS_DIR", "HF_HUB_OFFLINE")
    variables = {name: os.environ[name] for name in names} | {"GLOO_SOCKET_IFNAME": CABLE}
    given = {f"N{number}": value for number, value in enumerate(nasty.values(200))}
    variables |= {name: v for name, v in given.items() if nasty.survives_deepspeed(name, v)}
    assert len(variables) > 50
    text = "".join(nasty.line(name, value) for name, value in variables.items())
    (workplace / ".deepspeed_env").write_bytes(text.encode())
    for stage in ("pretrain", "finetune"):
        process = plain(two_hosts, stage, workplace)
        try:
            if stage == "pretrain":
                metrics_reach(workplace, 2)
                for host in two_hosts.names:
                    rank = only(two_hosts.running(host, "-m", stage, "recipe.toml"))
                    assert variables.items() <= rank.environ().items()
            output, _ = process.communicate(timeout=400)
        finally:
            process.kill()
            process.wait()
        assert process.returncode == 0, output
        two_hosts.nothing_left()
    assert_same(workplace, local)
    assert_same_task(workplace, local)
