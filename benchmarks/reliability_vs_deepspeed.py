"""Three faults of checkpoints: plain DeepSpeed, with its own `latest` file, beside `textmill run`.

    python benchmarks/reliability_vs_deepspeed.py [--quick]

Two ranks of ZeRO-2 on a CPU, twelve steps, a checkpoint after every fourth. Plain is a loop around
`deepspeed.initialize`, `load_checkpoint` and `save_checkpoint` as its documentation shows them
(`plain_deepspeed.py`). Each fault is put into an interrupted run, and the same command is started
again:

    death in a save    rank 1 is killed when it begins to write its part of the second checkpoint
    pointer lost       `latest` is gone, as after a copy of only the folders
    bit flipped        one bit of rank 1's optimizer states in the newest checkpoint

Right is: exit code 0, no step repeated that a sound checkpoint holds, and the weights of the
uninterrupted run bit by bit. `--quick` records nothing.
"""

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import record
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from runtime import starting

ROOT = Path(__file__).resolve().parent.parent
PLAIN = Path(__file__).with_name("plain_deepspeed.py")
STEPS, EVERY = 12, 4
FATAL_SAVE = "FATAL_SAVE"  # which of its parts of checkpoints rank 1 dies at
FAULTS = {"death in a save": 4, "pointer lost": 8, "bit flipped": 4}  # and the newest sound step
BEGAN = re.compile(r"^begins at step (\d+)|^step +(\d+)/", re.M)  # after so many, or with this one
# Python imports a module of this name at its start: it waits for torch, then changes its `save`.
FATAL = f"""
import os, signal, sys, threading, time
calls = []
def patch():
    while not hasattr(sys.modules.get("torch"), "compile"):
        time.sleep(0.01)
    import torch
    save = torch.save
    def dying(*given, **named):
        calls.extend(word for word in map(str, given[1:]) if word.endswith("optim_states.pt"))
        if len(calls) == int(os.environ["{FATAL_SAVE}"]):
            os.kill(os.getpid(), signal.SIGKILL)
        return save(*given, **named)
    torch.save = dying
if os.environ.get("RANK") == "1" and "{FATAL_SAVE}" in os.environ:
    threading.Thread(target=patch, daemon=True).start()
"""
RECIPE = """
name = "reliability"
output = "run"
[launch]
ranks = 2
workers = 1
[sources.words]
reader = "jsonl"
path = "words.jsonl"
[tokenizer]
vocab_size = 448
[packing]
sequence_length = 32
valid_share = 0.1
[model]
num_layers = 2
hidden_size = 32
num_heads = 2
intermediate_size = 48
local_window = 16
[train]
total_tokens = {tokens}
global_batch_size = 8
micro_batch_size = 4
[track]
interval_steps = 1
[checkpoint]
interval_steps = {every}
[engine]
precision = "fp32"
ds_config = "zero2"
"""


class Ours:
    """`textmill run` in a folder."""

    name = "textmill"
    pointer, parts = "run/pretrain/checkpoints/LATEST", "run/pretrain/checkpoints/step-*"

    def prepare(self, folder: Path) -> None:
        rows = (f"number {i} and {i * i % 97} are words of document {i % 13}" for i in range(400))
        (folder / "words.jsonl").write_text("".join(json.dumps({"text": r}) + "\n" for r in rows))
        tokens = STEPS * 8 * 32
        (folder / "recipe.toml").write_text(RECIPE.format(tokens=tokens, every=EVERY))

    def run(self, folder: Path, fatal_save: int | None = None) -> tuple[int, str]:
        line = [sys.executable, "-m", "launch", "run", "recipe.toml"]
        return ended(subprocess.Popen(line, **surroundings(folder, fatal_save)))

    def result(self, folder: Path) -> str | None:
        found = sorted((folder / "run/pretrain").rglob("model.safetensors"))
        return hashlib.sha256(found[-1].read_bytes()).hexdigest() if found else None


class Plain:
    """The loop around DeepSpeed in a folder."""

    name = "plain DeepSpeed"
    pointer, parts = "checkpoints/latest", "checkpoints/global_step*"

    def prepare(self, folder: Path) -> None:
        """It needs nothing."""

    def run(self, folder: Path, fatal_save: int | None = None) -> tuple[int, str]:
        """Two ranks; the code of the first that fails. The other one is ended with it, as
        DeepSpeed's launcher does."""
        port = str(starting.free_port())
        ranks = []
        for rank in range(2):
            given = surroundings(folder, fatal_save)
            given["env"] |= starting.rank_variables(1) | {
                "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2",
                "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port,
            }  # fmt: skip
            line = [sys.executable, str(PLAIN), str(STEPS), str(EVERY)]
            ranks.append(subprocess.Popen(line, **given))
        results = [ended(rank) for rank in reversed(ranks)]
        return next((code for code, _ in results if code), 0), "".join(said for _, said in results)

    def result(self, folder: Path) -> str | None:
        path = folder / "weights.sha256"
        return path.read_text() if path.is_file() else None


def surroundings(folder: Path, fatal_save: int | None) -> dict[str, Any]:
    environment = dict(os.environ) | starting.variables(folder.parent / "cache")
    environment["PYTHONPATH"] = os.pathsep.join([str(folder.parent / "fatal"), str(ROOT)])
    if fatal_save is not None:
        environment[FATAL_SAVE] = str(fatal_save)
    return {
        "cwd": folder, "env": environment, "text": True,
        "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT,
    }  # fmt: skip


def ended(process: "subprocess.Popen[str]") -> tuple[int, str]:
    said, _ = process.communicate(timeout=600)
    return process.returncode, said


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="record nothing")
    told = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="textmill-reliability-") as name:
        folder = Path(name)
        (folder / "fatal").mkdir()
        (folder / "fatal/sitecustomize.py").write_text(FATAL)
        rows = [row for system in (Ours(), Plain()) for row in tried(system, folder)]
    table = Table("fault", "system", "exit code", "began after", "weights as without it", "said")
    for row in rows:
        table.add_row(row["fault"], row["system"], str(row["exit_code"]), str(row["began_after"]),
                      "yes" if row["is_same"] else "no", escape(row["said"]))  # fmt: skip
    Console(width=160).print(table)
    if not told.quick:
        right = {row["system"]: 0 for row in rows}
        for row in rows:
            right[row["system"]] += row["is_right"]
        figures = {f"{system} right of {len(FAULTS)}": float(n) for system, n in right.items()}
        print(record.write("reliability_vs_deepspeed", figures, rows))


def tried(system: Ours | Plain, folder: Path) -> list[dict[str, Any]]:
    """What becomes of each fault."""
    clean = fresh(system, folder / f"{system.name}-clean")
    code, said = system.run(clean)
    wanted = system.result(clean)
    if code or wanted is None:
        raise SystemExit(f"{system.name} does not run:\n{said}")
    rows = []
    for fault in FAULTS:
        place = fresh(system, folder / f"{system.name}-{fault}".replace(" ", "-"))
        interrupted(system, place, fault)
        code, said = system.run(place)
        found = system.result(place)
        rows.append({
            "fault": fault, "system": system.name, "exit_code": code, "began_after": began(said),
            "is_same": code == 0 and found == wanted, "said": telling(said.splitlines()),
        })  # fmt: skip
        rows[-1]["is_right"] = rows[-1]["is_same"] and began(said) == FAULTS[fault]
    return rows


def began(said: str) -> int | None:
    """The last step that a start did not do again; None if it did not come so far."""
    found = BEGAN.search(said)
    if found is None:
        return None
    return int(found[1]) if found[1] else int(found[2]) - 1


def fresh(system: Ours | Plain, folder: Path) -> Path:
    folder.mkdir()
    system.prepare(folder)
    return folder


def interrupted(system: Ours | Plain, folder: Path, fault: str) -> None:
    """A run with two whole checkpoints and the fault, or with one and half of a second."""
    if fault == "death in a save":
        system.run(folder, fatal_save=2)
        return
    system.run(folder, fatal_save=3)
    steps = sorted(folder.glob(system.parts), key=step_of)
    whole = [path for path in steps if step_of(path) < STEPS]
    for path in steps[len(whole) :]:  # what the death itself left, which is the first fault
        shutil.rmtree(path)
    pointer = folder / system.pointer
    if fault == "pointer lost":
        pointer.unlink()
        return
    pointer.write_text(whole[-1].name)
    flip(sorted(whole[-1].rglob("*rank_1_*optim_states.pt"))[0])


def step_of(checkpoint: Path) -> int:
    return int("".join(filter(str.isdigit, checkpoint.name)))


def flip(path: Path) -> None:
    """One bit in the middle of a file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x40
    path.write_bytes(content)


TELLING: tuple[Callable[[str], bool], ...] = (
    lambda line: line.startswith("textmill: ") and "starting" not in line,
    lambda line: "Error" in line or ("WARNING" in line and "latest" in line),
    lambda line: line.startswith("begins at step"),
)


def telling(lines: Sequence[str]) -> str:
    """The line that says most of what happened, shortened."""
    for is_telling in TELLING:
        if found := [line.strip() for line in lines if is_telling(line)]:
            return found[-1][:200]
    return ""


if __name__ == "__main__":
    main()
