"""Run `textmill doctor` as people do, and read what it found."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
ELSEWHERE = ("leftovers",)  # looks at the whole machine, on which other tests run
NOT_OURS = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT", "PYTHONPATH")


@dataclass(frozen=True)
class Line:
    """A finding."""

    level: str
    where: str
    what: str
    fix: str
    check: str


@dataclass(frozen=True)
class Report:
    """What came out of the doctor."""

    exit_code: int
    hosts: list[str]
    checks: list[str]
    lines: list[Line]
    seconds: float

    def only(self, level: str, check: str) -> Line:
        """The one finding there is."""
        assert [(line.level, line.check) for line in self.lines] == [(level, check)], self.lines
        assert self.exit_code == (2 if level == "fault" else 0)
        assert self.lines[0].fix
        return self.lines[0]


def doctor(
    *arguments: str | Path,
    folder: Path,
    environment: Mapping[str, str] | None = None,
    inside: Sequence[str] = (),
    skip: Sequence[str] = ELSEWHERE,
    timeout_seconds: float = 180,
) -> Report:
    """Run it in `folder`, with these variables beside ours, below the command `inside`."""
    clean = {name: value for name, value in os.environ.items() if name not in NOT_OURS}
    done = subprocess.run(
        [*inside, sys.executable, "-m", "launch", "doctor", *map(str, arguments), "--json"]
        + (["--skip", *skip] if skip else []),
        cwd=folder, env={**clean, **(environment or {})}, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=timeout_seconds,
    )  # fmt: skip
    assert done.returncode in (0, 2), done.stderr
    assert done.stdout, done.stderr
    found = json.loads(done.stdout)
    lines = [Line(**finding) for finding in found["findings"]]
    assert found["faults"] == sum(line.level == "fault" for line in lines)
    return Report(done.returncode, found["hosts"], found["checks"], lines, found["seconds"])


RECIPE = """name = "small"
output = "{output}"

[sources.text]
reader = "text"
path = "corpus.txt"

[model]
num_layers = 2
hidden_size = 64
num_heads = 2
intermediate_size = 128

[train]
total_tokens = 100_000
global_batch_size = 8
micro_batch_size = 2

[launch]
ranks = 2
"""


def recipe(folder: Path, output: Path, *changes: tuple[str, str]) -> Path:
    """A recipe for two ranks with the changes made."""
    text = RECIPE.format(output=output)
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    path = folder / "small.toml"
    path.write_text(text, encoding="utf-8")
    return path
