"""Units of a large corpus: 10,000 written, resumed and shared out; an array of 10,000 tasks.

    python benchmarks/scale_units.py [--quick]

The work folder, its journals, the pass that runs what has no journal yet, the jobs that travel to
a cluster, the claims by which tasks share them and the arguments of sbatch are those of a build.
The jobs themselves do nothing, and files are on a local disk: on a network file system each of the
operations that are counted here takes a round trip more. The 1,000 tasks that share the units are
threads of one process, whose jobs sleep.
"""

import argparse
import json
import pickle
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass
from io import StringIO
from pathlib import Path
from threading import Thread
from typing import Any

import cost
import record
from rich.console import Console
from rich.table import Table

from data_prep import build
from data_prep.augmenting import Augment
from data_prep.build import Build
from data_prep.cleaning import Clean
from data_prep.config import Recipe
from data_prep.decontamination import Decontaminate
from data_prep.dedup import Dedup
from data_prep.executors import arrays, task
from data_prep.progress import Progress
from data_prep.readers import jsonl
from data_prep.reading import ReadJob
from data_prep.sources import Part
from data_prep.units import Unit, grouped
from data_prep.work import Work
from runtime.config import Slurm

JOB_SECONDS = 0.5
UNIT_BYTES = 1 << 30


@dataclass(frozen=True)
class Sizes:
    """How many of each."""

    units: int
    tasks: int  # of an array
    workers: int  # tasks that run at a time
    small_files: int  # grouped into units


WHOLE = Sizes(10_000, 10_000, 1_000, 1_000_000)
QUICK = Sizes(500, 500, 50, 20_000)


@dataclass(frozen=True)
class Job:
    """A unit of a pass that only leaves its journal."""

    work: Work
    name: str


def journal(job: Job) -> dict[str, Any]:
    """What the first pass leaves of a unit, in size."""
    counts = {"read": 200_000, "kept": 180_000, "bytes": UNIT_BYTES, "augmented": 0, "redacted": 0,
              "quarantined": {}, "dropped": {"short": 20_000}, "languages": {}}  # fmt: skip
    samples = {"short": [{"id": f"file-{n:06d}.jsonl/12", "sample": "x" * 200} for n in range(3)]}
    return job.work.finish(job.name, counts | {"samples": samples})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a twentieth of it")
    sizes = QUICK if parser.parse_args().quick else WHOLE
    with tempfile.TemporaryDirectory(prefix="textmill-scale-") as name:
        raw = measure(Path(name), sizes)
    figures: dict[str, float] = dict(asdict(sizes))
    for row in raw:
        what = str(row["what"]).replace(" ", "_")
        figures |= {f"{what}_{key}": value for key, value in row.items() if key != "what"}
    path = record.write("scale_units", figures, [cost.SHARED, *raw])
    table = Table("what", "wall s", "CPU s", "peak MB", "more", title=f"{sizes.units:,} units")
    known = ("what", "wall_s", "cpu_s", "peak_mb", "grown_mb", "open_files")
    for row in raw:
        more = ", ".join(f"{key} {value:,.6g}" for key, value in row.items() if key not in known)
        table.add_row(row["what"], f"{row['wall_s']:.2f}", f"{row['cpu_s']:.2f}",
                      f"{row['peak_mb']:.0f}", more)  # fmt: skip
    Console().print(table)
    print(path)


def measure(folder: Path, sizes: Sizes) -> list[dict[str, Any]]:
    """The cost of each part."""
    work = Work(folder / "data.work")
    return [
        grouping(sizes.small_files),
        *journals(work, sizes.units),
        pickled(work, sizes.units),
        claims(folder / "spool", sizes.units, sizes.workers),
        rendered(sizes.tasks),
    ]


def grouping(num_files: int) -> dict[str, Any]:
    """Units of very many small files."""
    parts = [Part(f"{n}.txt", 0, 10_000, 10_000, f"{n}.txt", "") for n in range(num_files)]
    with cost.of("group small files") as found:
        units = list(grouped(parts, 1 << 26))
    assert sum(map(len, units)) == num_files
    return found.row() | {"files": num_files, "units": len(units)}


def journals(work: Work, num_units: int) -> Iterator[dict[str, Any]]:
    """A pass run whole, resumed with a tenth missing, and looked at when all of it is done."""
    jobs = [Job(work, f"read/web/{number:06d}") for number in range(num_units)]

    def run(function: Any, todo: Sequence[Job], names: Sequence[str]) -> Iterator[tuple[int, Any]]:
        for place, job in enumerate(todo):
            calls["run"] += 1
            yield place, function(job)

    current = Build(work, Recipe(name="scale", output=work.folder), (), run, Progress(1))
    calls: Counter[str] = Counter()
    for what, missing in (("write journals", 1), ("resume", 10), ("look at journals", 0)):
        for job in jobs[::missing] if missing > 1 else []:
            work.path(job.name, ".json").unlink()
        calls.clear()
        with cost.of(what) as found:
            done = build.run_pass(current, "read", journal, jobs, [UNIT_BYTES] * num_units)
        assert len(done) == num_units
        yield found.row() | {"run": calls["run"]}


def pickled(work: Work, num_units: int) -> dict[str, Any]:
    """The jobs of the first pass, as every task of an array reads them."""
    source = jsonl.Params(reader="jsonl", path="/data/web/*.jsonl.zst")
    tables = (source, Clean(), Dedup(near=True), Decontaminate(), Augment(), 0, None)
    with cost.of("pickle jobs") as found:
        jobs = []
        for number in range(num_units):
            path = f"/data/web/{number:06d}.jsonl"
            part = Part(path, 0, UNIT_BYTES, UNIT_BYTES, path, "1700000000000000000")
            jobs.append(ReadJob(work, Unit("web", number, (part,)), *tables))
        size = len(pickle.dumps((journal, jobs, [job.name for job in jobs])))
    return found.row() | {"bytes": size, "bytes_a_unit": size / num_units}


def short_work(number: int) -> None:
    """A job, as long as others or not."""
    time.sleep((0.5 + number % 7 / 7) * JOB_SECONDS)


def claims(spool: Path, num_jobs: int, num_workers: int) -> dict[str, Any]:
    """Tasks that share jobs, all at once: how often one tries what another has."""
    for name in (task.CLAIMS, task.ENDED):
        (spool / name).mkdir(parents=True)
    jobs = list(range(num_jobs))
    names = [f"unit-{number}" for number in jobs]
    (spool / task.JOBS).write_bytes(pickle.dumps((short_work, jobs, names)))
    tried: Counter[bool] = Counter()
    claim = task.claim

    def counted(*told: Any) -> bool:
        found = claim(*told)
        tried[found] += 1
        return found

    def run(number: int) -> None:
        task.work_off(spool, str(number), number / num_workers)

    task.claim = counted
    try:
        with cost.of("share jobs") as found, redirect_stdout(StringIO()):
            threads = [Thread(target=run, args=(number,)) for number in range(num_workers)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
    finally:
        task.claim = claim
    assert tried[True] == num_jobs == len(list((spool / task.ENDED).iterdir()))
    return found.row() | {"jobs": num_jobs, "workers": num_workers, "in_vain": tried[False]}


def rendered(num_tasks: int) -> dict[str, Any]:
    """The arguments of sbatch for an array, and the states of its tasks as squeue tells them."""
    states = "\n".join(f"{number} RUNNING" for number in range(num_tasks))
    asked: list[tuple[str, ...]] = []

    def ask(program: str, *arguments: str, script: str | None = None) -> str:
        asked.append((program, *arguments))
        return states if program == "squeue" else "12345\n"

    before, arrays.ask = arrays.ask, ask
    try:
        with cost.of("render and read an array") as found:
            arrays.submit(Slurm(), "textmill-0", num_tasks, ["python"], Path("/spool/task-%a.log"))
            assert not arrays.is_over(arrays.states("12345"))
    finally:
        arrays.ask = before
    size = len(json.dumps(asked[0]))
    assert f"--array=0-{num_tasks - 1}" in asked[0]
    return found.row() | {"argument_bytes": size}


if __name__ == "__main__":
    main()
