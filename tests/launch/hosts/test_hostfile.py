"""Hostfiles: what is read, and every line that is refused."""

from pathlib import Path

import pytest

from launch.hosts import hostfile
from launch.hosts.hostfile import Host
from runtime.errors import RecipeError


def read(folder: Path, text: str) -> tuple[Host, ...]:
    path = folder / "hostfile"
    path.write_text(text, encoding="utf-8")
    return hostfile.read(path)


def test_hosts_in_their_order(tmp_path: Path) -> None:
    text = (
        "# ours\nnode-02 slots=4\r\n\n  n1.example.org\tslots=12  # the old one\n10.0.0.7 slots=1"
    )
    assert read(tmp_path, text) == (
        Host("node-02", 4),
        Host("n1.example.org", 12),
        Host("10.0.0.7", 1),
    )


def test_the_example_is_a_hostfile(root: Path) -> None:
    assert hostfile.read(root / "hostfile.example") == (Host("node-01", 8), Host("node-02", 8))


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("node-02", "is no `NAME slots=N`: 'node-02'"),
        ("node-02 slots = 4", "is no `NAME slots=N`"),
        ("node-02 slots=4 extra", "is no `NAME slots=N`"),
        ("node-02 slots=0", "N is a number from 1: 'node-02 slots=0'"),
        ("node-02 slots=-1", "N is a number from 1"),
        ("node-02 slots=٣", "N is a number from 1: 'node-02 slots=\\u0663'"),
        ("node-02 slots=4x", "N is a number from 1"),
        ("-oProxyCommand=x slots=1", "begins with a letter or a digit: '-oProxyCommand=x slots=1'"),
        ("-oProxyCommand=touch${IFS}x slots=1", "begins with a letter or a digit"),
        ("node_02 slots=1", "a name has letters, digits, dots and hyphens"),
        ("node;id slots=1", "a name has letters, digits, dots and hyphens"),
        ("$(id) slots=1", "a name has letters, digits, dots and hyphens"),
        ("nodé slots=1", "a name has letters, digits, dots and hyphens"),
        ("\ufeffnode-02 slots=1", "'\\ufeffnode-02 slots=1'"),
        ("fe80::1 slots=1", "a name has letters, digits, dots and hyphens"),
        (f"{'a' * 254} slots=1", "a name has letters, digits, dots and hyphens"),
        ("10.0.0.256 slots=1", "begins with what is no IPv4 address"),
        ("10.0.1 slots=1", "begins with what is no IPv4 address"),
        ("root@node-02 slots=1", "names a user; write that into ~/.ssh/config"),
        ("NODE-01 slots=1", "names NODE-01 again, which is on line 1"),
    ],
)
def test_a_line_that_is_none(tmp_path: Path, line: str, problem: str) -> None:
    with pytest.raises(RecipeError) as caught:
        read(tmp_path, f"node-01 slots=8\n\n{line}\n")
    assert str(caught.value).splitlines()[0].startswith("1 problem in the hostfile ")
    assert str(caught.value).splitlines()[1].startswith("  line 3 ")
    assert problem in str(caught.value)


def test_all_problems_at_once(tmp_path: Path) -> None:
    with pytest.raises(RecipeError) as caught:
        read(tmp_path, "a slots=1\nb\nlocalhost slots=1\na slots=2\n-x slots=1\n127.0.0.1 slots=1")
    first, *others = str(caught.value).splitlines()
    assert first.startswith("5 problems in the hostfile")
    assert [line.split()[1] for line in others] == ["2", "4", "5", "3", "6"]
    assert "names localhost, which is another machine on every host" in others[3]


def test_localhost_alone_is_a_host(tmp_path: Path) -> None:
    assert read(tmp_path, "localhost slots=2\n") == (Host("localhost", 2),)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"# none\n", "it names no host"),
        (b"n\xff slots=1\n", "is not UTF-8"),
        (None, "cannot read"),
    ],
)
def test_a_file_that_is_none(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "hostfile"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(RecipeError, match=message):
        hostfile.read(path)
