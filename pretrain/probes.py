"""Probes: a small task, fine-tuned on the encoder as it is, every so often while it is pretrained.

The score on the task's valid file is logged beside the loss as `probe/TASK`. For a probe all ranks
export the encoder into `probes/step-N/encoder`; rank 0 then runs `python -m finetune` on it as one
process of its own with a recipe of that task alone, while the other ranks wait in small collectives
that no time limit can hit. What stays in `probes/step-N/` is the recipe, the log and TASK.json.

A probe never ends or changes the run: one that fails or takes too long is reported and passed over.
Scores travel in the checkpoint. A run that was killed after a probe and before its next checkpoint
finds TASK.json with the fingerprint of the same weights and does not repeat it; one that is stopped
during a probe begins with it when it continues.
"""

import ctypes
import json
import logging
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import tomli_w
import torch

from pretrain.config import Probe
from pretrain.export import Exporter
from pretrain.hooks import Done
from runtime import checkpoint, processes, provenance, signals
from runtime.errors import DataError, StopRequested

POLL_SECONDS = 0.2
PR_SET_PDEATHSIG = 1  # prctl(2): the signal a process gets when its parent ends
KEPT_TABLES = ("seed", "optimizer", "guard")  # of the run's recipe
# What tells a process that it is one of several ranks.
RANK_NAMES = (
    "RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "GROUP_RANK", "ROLE_RANK",
    "ROLE_WORLD_SIZE", "LOCAL_SIZE", "CROSS_RANK", "CROSS_SIZE", "MASTER_ADDR", "MASTER_PORT",
)  # fmt: skip
RANK_PREFIXES = ("SLURM_", "OMPI_", "PMI_", "PMIX_", "TORCHELASTIC_")
log = logging.getLogger("textmill")


class Probes:
    """The hook that runs them."""

    name = "probes"

    def __init__(
        self,
        tables: Sequence[Probe],
        recipe: Mapping[str, Any],
        exporter: Exporter,
        folder: Path,
    ) -> None:
        """`recipe` is the run's, complete and as JSON; `folder` is the one of the run."""
        self.tables = tables
        self.recipe = recipe
        self.exporter = exporter
        self.folder = folder / "probes"
        self.done: dict[str, int] = {}  # probes done or passed over, by task
        self.scores: dict[str, list[tuple[int, float | None]]] = {}  # (step, score), by task

    def state(self) -> dict[str, Any]:
        return {"done": dict(self.done), "scores": {k: list(v) for k, v in self.scores.items()}}

    def restore(self, state: Mapping[str, Any]) -> None:
        self.done = dict(state["done"])
        self.scores = {
            task: [(step, score) for step, score in pairs]
            for task, pairs in state["scores"].items()
        }

    def after_step(self, done: Done) -> Mapping[str, float]:
        reached = {probe.task: num_due(probe, done.progress) for probe in self.tables}
        due = [probe for probe in self.tables if reached[probe.task] > self.done.get(probe.task, 0)]
        if not due:
            return {}
        step = done.position.step
        room = self.folder / f"step-{step:08d}"
        checkpoint.on_rank_0(lambda: room.mkdir(parents=True, exist_ok=True))
        self.exporter.write(room / "encoder", {"step": step})
        metrics = {}
        for probe in due:
            ended, score = self.run(probe, room, step)
            if not ended:
                checkpoint.on_rank_0(lambda: clear(room))
                raise StopRequested(f"stopped during the probe {probe.task}")
            self.done[probe.task] = reached[probe.task]
            self.scores.setdefault(probe.task, []).append((step, score))
            if score is not None:
                metrics[f"probe/{probe.task}"] = score
        checkpoint.on_rank_0(lambda: clear(room))
        return metrics

    def run(self, probe: Probe, room: Path, step: int) -> tuple[bool, float | None]:
        """Whether the probe came to an end, and its score if it has one. All ranks call it."""
        if processes.rank() != 0:
            wait(lambda: False)
            return processes.from_rank_0((False, None))
        recipe = child_recipe(self.recipe, probe.task, room)
        made_of = {
            "step": step,
            "encoder": provenance.files_fingerprint((room / "encoder").glob("*.safetensors")),
            "recipe": provenance.fingerprint(recipe),
        }
        known = known_score(room / f"{probe.task}.json", made_of)
        if known is not None:
            wait(lambda: True)
            return processes.from_rank_0((True, known))
        return processes.from_rank_0(run_child(probe, recipe, room, made_of))


def num_due(probe: Probe, progress: float) -> int:
    """How many probes belong to this share of the run."""
    return math.floor(progress / probe.every_share + 1e-9)  # 0.3 / 0.1 is just below 3


def wait(is_over: Callable[[], bool]) -> bool:
    """Wait until rank 0's claim holds; False if the run is to stop before. All ranks call it."""
    while True:
        over, stops = processes.sum_over_ranks([is_over(), signals.stop_requested()])
        if over or stops:
            return bool(over)
        time.sleep(POLL_SECONDS)


def run_child(
    probe: Probe, recipe: Mapping[str, Any], room: Path, made_of: Mapping[str, Any]
) -> tuple[bool, float | None]:
    """Fine-tune in a process of its own and read its score. Rank 0 calls it, the others wait."""
    began = time.monotonic()
    deadline = began + probe.max_minutes * 60
    if processes.uses_cuda():
        torch.cuda.empty_cache()  # what is cached is lent to the child
    try:
        child = start(recipe, probe.task, room)
    except OSError as error:
        wait(lambda: True)
        say_failed(probe.task, room, f"could not be started: {error}")
        return True, None
    try:
        ended = wait(lambda: child.poll() is not None or time.monotonic() > deadline)
        code = child.poll()
    finally:
        end(child)
    if not ended:
        return False, None
    if code != 0:
        late = f"was ended after {probe.max_minutes:g} minutes (max_minutes)"
        say_failed(probe.task, room, late if code is None else f"failed with exit code {code}")
        return True, None
    try:
        report = provenance.read_json(room / "finetune" / probe.task / "report.json")
        metric = report["metric"]
        score = float(report["valid"]["metrics"][metric])
        seconds = round(time.monotonic() - began, 1)
        found = {**made_of, "metric": metric, "score": score, "seconds": seconds}
        provenance.write_json(room / f"{probe.task}.json", found)
    except (DataError, OSError, KeyError, TypeError, ValueError) as error:
        say_failed(probe.task, room, f"left no score ({error!r})")
        return True, None
    log.info("probe %s: %s %.4f in %.0f s", probe.task, metric, score, seconds)
    return True, score


def child_recipe(recipe: Mapping[str, Any], task: str, room: Path) -> dict[str, Any]:
    """A recipe of one task on the encoder of this step, without what takes time and gives no
    score."""
    threads = recipe["engine"].get("threads_per_rank")
    engine = dict(recipe["engine"])
    if threads is not None:  # the other ranks of this machine are idle meanwhile
        engine["threads_per_rank"] = threads * int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    table = {key: value for key, value in recipe["tasks"][task].items() if key != "test"}
    return {
        "name": f"{recipe['name']} probe {task}",
        "output": str(room),
        **{key: recipe[key] for key in KEPT_TABLES if key in recipe},
        "engine": engine,
        "checkpoint": {"keep_last": 1},
        "export": {"onnx": False},
        "tasks": {task: {**table, "encoder": str(room / "encoder"), "control_random_init": False}},
    }


def start(recipe: Mapping[str, Any], task: str, room: Path) -> "subprocess.Popen[bytes]":
    """Start fine-tuning in a session of its own that ends when this process ends."""
    path = room / f"{task}.toml"
    provenance.write_text(path, tomli_w.dumps(dict(recipe)))
    shutil.rmtree(room / "finetune" / task, ignore_errors=True)  # of a run that was killed
    prctl = ctypes.CDLL(None).prctl if sys.platform == "linux" else None

    def end_with_parent() -> None:
        if prctl is not None:
            prctl(PR_SET_PDEATHSIG, signal.SIGKILL)

    with (room / f"{task}.log").open("wb") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "finetune", str(path)],
            env=child_environment(),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=end_with_parent,
        )


def child_environment() -> dict[str, str]:
    """This process's environment without what makes it a rank."""
    return {
        name: value
        for name, value in os.environ.items()
        if name not in RANK_NAMES and not name.startswith(RANK_PREFIXES)
    }


def end(child: "subprocess.Popen[bytes]") -> None:
    """End a child that still runs, with the processes it started."""
    if child.poll() is None:
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()


def known_score(path: Path, made_of: Mapping[str, Any]) -> float | None:
    """The score of a probe that was already run on the same weights."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return float(found["score"]) if found == {**found, **made_of} else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def clear(room: Path) -> None:
    """Leave the recipe, the log and the score of each probe."""
    for name in ("encoder", "finetune"):
        shutil.rmtree(room / name, ignore_errors=True)


def say_failed(task: str, room: Path, why: str) -> None:
    path = room / f"{task}.log"
    lines = path.read_text(errors="replace").strip().splitlines() if path.is_file() else []
    last = f": {lines[-1]}" if lines else ""
    log.warning("probe %s %s; training goes on; see %s%s", task, why, path, last)
