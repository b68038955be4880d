"""What reaches the ranks on two hosts, and what is shown of it."""

import json
from pathlib import Path

from tests.launch.hosts import nasty
from tests.launch.hosts.pretend_run import Run
from tests.two_hosts import TwoHosts, line_of, two_hosts

__all__ = ["two_hosts"]  # fixture
SECRET = "hf_abcdefghijklmnop"


def test_200_nasty_values_arrive_and_no_secret_is_shown(
    two_hosts: TwoHosts, tmp_path: Path
) -> None:
    values = {f"N{number}": value for number, value in enumerate(nasty.values(200))}
    values |= {"HF_TOKEN": SECRET, "DB_PASSWORD": " two words\n'and\" more$"}
    text = "".join(nasty.line(name, value) for name, value in values.items())
    (tmp_path / "variables").write_bytes(text.encode())
    run = Run(two_hosts, tmp_path, "tell")
    run.are_ready()
    commands = [" ".join(line_of(p)) for on in two_hosts.spaces for p in two_hosts.processes(on)]
    (tmp_path / "go-on").touch()
    last, lines = run.end()
    assert last == "outcome 0 None False", lines
    for rank in range(2):
        found = json.loads((tmp_path / f"environment-{rank}.json").read_text())
        arrived = {name: bytes.fromhex(found[name]) for name in values}
        assert arrived == {name: value.encode() for name, value in values.items()}
        assert bytes.fromhex(found["GLOO_SOCKET_IFNAME"]) == b"eth0"
        assert bytes.fromhex(found["MASTER_ADDR"]) == b"10.77.0.1"
    assert sum("launch.node" in command for command in commands) >= 4
    logs = list((tmp_path / "logs").rglob("*.log"))
    assert {path.name for path in logs} == {"stage.log", "rank-0.log", "rank-1.log"}
    for text in ("\n".join(lines), *(path.read_text() for path in logs)):
        assert "textmill: the token is ***" in text
    shown = [*lines, *commands, *(path.read_text() for path in logs)]
    for part in (SECRET, "two words", "more$"):
        assert not [text for text in shown if part in text]
    two_hosts.nothing_left()
