"""Which variables a rank has, from wherever they come."""

import os
from pathlib import Path

import pytest

from launch.hosts.forwarding import PREFIXES, forwarded
from launch.hosts.layout import layout_of
from launch.hosts.nodes import Node
from launch.hosts.rank_environment import environment_of
from runtime.config import Launch, Recipe

HERE = {
    "HF_TOKEN": "a", "NCCL_DEBUG": "b", "TEXTMILL_DATA": "c", "CORPUS": "d", "PATH": "e",
    "HOME": "f", "CUDA_VISIBLE_DEVICES": "0", "RANK": "3", "TEXTMILL_LAUNCHED": "1", "OTHER": "g",
}  # fmt: skip


def test_what_libraries_and_the_recipe_read_goes_along() -> None:
    assert forwarded(HERE) == {"HF_TOKEN": "a", "NCCL_DEBUG": "b", "TEXTMILL_DATA": "c"}
    texts = ('path = "${CORPUS}/a"\n', 'name="${RANK}"')
    assert forwarded(HERE, texts).keys() - forwarded(HERE).keys() == {"CORPUS"}


def test_the_environment_file_goes_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hostfile, variables, path = (tmp_path / name for name in ("hosts", "variables", "tiny.toml"))
    hostfile.write_text("node-01 slots=2\n")
    variables.write_text("NCCL_DEBUG=file\nOTHER=file\n")
    path.write_text('name = "${CORPUS}"\n')
    for name in ("NCCL_DEBUG", "CORPUS", "SECOND"):
        monkeypatch.setenv(name, "here")
    launch = Launch(launcher="deepspeed", hostfile=hostfile, environment_file=variables)
    recipe = Recipe(name="tiny", output=tmp_path, launch=launch)
    found = layout_of(recipe, path, ['seed="${SECOND}"'])
    assert found.nodes == (Node("node-01", 0, 2),)
    wanted = {"NCCL_DEBUG": "file", "OTHER": "file", "CORPUS": "here", "SECOND": "here"}
    assert wanted.items() <= found.environment.items()
    local = layout_of(Recipe(name="tiny", output=tmp_path, launch=Launch(ranks=2)), path, [])
    assert (local.nodes, local.environment) == ((Node(None, 0, 2),), {})


def test_the_last_word_of_a_rank_is_who_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("RANK", "MASTER_ADDR", "OMP_NUM_THREADS", "A", "TEXTMILL_HOST"):
        monkeypatch.setenv(name, "machine")
    monkeypatch.setitem(os.environb, b"RAW", b"\xff")  # no text in any encoding
    monkeypatch.delenv("GLOO_SOCKET_IFNAME", raising=False)
    sent = {"A": "sent", "B": "é", "MASTER_ADDR": "ib0"}
    identity = {"RANK": "1", "MASTER_ADDR": "10.0.0.1"}
    found = environment_of(identity, 2, str(tmp_path), 3, sent, None)
    wanted = {
        b"RANK": b"1", b"MASTER_ADDR": b"10.0.0.1", b"A": b"sent", b"B": "é".encode(),
        b"OMP_NUM_THREADS": b"machine", b"RAW": b"\xff", b"PYTHONUNBUFFERED": b"1",
    }  # fmt: skip
    assert wanted.items() <= found.items()
    assert b"TEXTMILL_HOST" not in found
    assert b"GLOO_SOCKET_IFNAME" not in found
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert environment_of(identity, 2, str(tmp_path), 3, sent, None)[b"OMP_NUM_THREADS"] == b"3"
    cores = len(os.sched_getaffinity(0))
    shared = environment_of(identity, 2, str(tmp_path), None, sent, None)
    assert shared[b"OMP_NUM_THREADS"] == str(max(1, cores // 2)).encode()


def test_the_documentation_names_all_prefixes(root: Path) -> None:
    text = (root / "docs/hostfile.md").read_text()
    assert [prefix for prefix in PREFIXES if f"`{prefix}`" not in text] == []
