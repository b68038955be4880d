"""Builds killed at random moments, finished by other numbers of workers, against clean ones.

    python benchmarks/exactly_once.py [--kills 100] [--quick]

Two recipes on a slice of each of TEXTMILL_DATA/corpora, cleaned by default: `trained` removes
near copies and lines and trains its tokenizer (every pass), `existing` has one and removes equal
texts (reading and encoding at once). A round is one build in an empty folder: it gets one to four
SIGKILLs, to the main process, one worker or all of them, at moments drawn from the time a clean
build takes, and goes on each time with a number of workers drawn from 1 to 4. Then every file but
run.json must equal that of a clean build by one worker. All is drawn from the seed of the round,
which the result file lists with what was hit. `--quick` makes six kills and records nothing.
"""

import argparse
import io
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil
import record
import zstandard

from runtime import provenance

ROOT = Path(__file__).resolve().parent.parent
DATA = Path(os.environ.get("TEXTMILL_DATA", ROOT.parent / "shared/data"))
SOURCES = ("books", "wiki", "zh", "legal", "docs", "code")
SLICE_BYTES = 500_000  # of JSONL a source
WORKERS = (1, 2, 3, 4)
MAX_KILLS = 4  # of one build
RECIPE = """
name = "exactly-once"
output = "unused"
{sources}
[dedup]
{dedup}
[tokenizer]
{tokenizer}
[packing]
sequence_length = 128
shard_tokens = 30_000
valid_share = 0.02
"""


@dataclass(frozen=True)
class Kill:
    """One SIGKILL and what it met."""

    seed: int  # of the round
    recipe: str
    workers: int
    target: str  # main, worker or all
    seconds: float  # after the start of the process
    reached: str  # the pass the build was in


@dataclass(frozen=True)
class Clean:
    """A recipe, what a clean build of one worker writes, and how long one takes."""

    recipe: Path
    content: dict[str, str]  # hash of each file
    seconds: dict[int, float]  # by number of workers


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--quick", action="store_true", help="six kills, nothing recorded")
    told = parser.parse_args()
    wanted = 6 if told.quick else told.kills
    with tempfile.TemporaryDirectory(prefix="textmill-kills-") as name:
        clean = prepare(Path(name))
        rounds = list(killed_rounds(Path(name), clean, wanted))
    kills = sum(len(found["kills"]) for found in rounds)
    identical = sum(len(found["kills"]) for found in rounds if found["differs"] == [])
    print(f"{kills} kills in {len(rounds)} builds, {identical} of them in identical corpora")
    if not told.quick:
        seconds = {f"seconds_{label}": one.seconds[1] for label, one in clean.items()}
        figures = {"kills": kills, "identical": identical, "builds": len(rounds), **seconds}
        print(record.write("exactly_once", figures, rounds))
    return 0 if kills == identical else 1


def killed_rounds(folder: Path, clean: dict[str, Clean], wanted: int) -> Iterator[dict[str, Any]]:
    """Rounds until there are as many kills as wanted."""
    seed, kills = 0, 0
    while kills < wanted:
        label = list(clean)[seed % len(clean)]
        found = killed_round(folder / "round", label, clean[label], seed, wanted - kills)
        kills += len(found["kills"])
        print(f"round {seed}: {kills}/{wanted} kills, differs: {found['differs']}", flush=True)
        yield found
        seed += 1


def killed_round(output: Path, label: str, clean: Clean, seed: int, most: int) -> dict[str, Any]:
    """One build that is killed and finished; which files differ from the clean one's."""
    rng = random.Random(f"exactly once {seed}")
    kills: list[Kill] = []
    for _ in range(min(rng.randint(1, MAX_KILLS), most)):
        workers = rng.choice(list(clean.seconds))
        target = rng.choice(("main", "worker", "all"))
        moment = rng.uniform(0, clean.seconds[workers])
        process = start(clean.recipe, output, workers)
        if not killed(process, moment, target, rng):
            break  # it was done before
        kills.append(Kill(seed, label, workers, target, round(moment, 3), reached(output)))
    last = rng.choice(list(clean.seconds))
    if start(clean.recipe, output, last).wait():
        raise SystemExit(f"round {seed}: the last build failed; see {output}")
    now = content(output / "data")
    paths = sorted(now.keys() | clean.content.keys())
    differs = [path for path in paths if now.get(path) != clean.content.get(path)]
    differs += sorted(path.name for path in output.iterdir() if path.name.endswith(".work"))
    shutil.rmtree(output)
    return {"finished_by": last, "kills": [asdict(kill) for kill in kills], "differs": differs}


def killed(
    process: "subprocess.Popen[bytes]", moment: float, target: str, rng: random.Random
) -> bool:
    """Kill the target after `moment` seconds; False if the build ended before."""
    try:
        process.wait(timeout=moment)
        return False
    except subprocess.TimeoutExpired:
        pass
    workers = psutil.Process(process.pid).children()
    try:
        if target == "all":
            os.killpg(process.pid, signal.SIGKILL)
        elif target == "worker" and workers:
            rng.choice(workers).kill()
        else:
            process.kill()
    except (ProcessLookupError, psutil.NoSuchProcess):
        pass  # it ended at this very moment
    return process.wait() != 0


def reached(output: Path) -> str:
    """The pass a killed build was in, from what it has left."""
    work = output / "data.work"
    for sign, name in (
        ("corpus/manifest.json", "publish"),
        ("shard", "shard"),
        ("encode", "encode"),
        ("corpus/tokenizer/*", "after the tokenizer"),
        ("merge.json", "train"),
        ("read", "read"),
    ):
        if list(work.glob(sign)):
            return name
    return "publish" if (output / "data").exists() else "start"


def start(recipe: Path, output: Path, workers: int) -> "subprocess.Popen[bytes]":
    """Start a build in a process group of its own; what it prints goes to a file by the recipe."""
    command = [sys.executable, "-m", "data_prep", str(recipe), f"launch.workers={workers}"]
    with recipe.with_suffix(".log").open("ab") as log:
        return subprocess.Popen(
            [*command, f'output="{output}"'],
            cwd=ROOT, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip


def content(folder: Path) -> dict[str, str]:
    """A hash of every file of a corpus but run.json, which says when and how it was made."""
    return {
        str(path.relative_to(folder)): provenance.file_fingerprint(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "run.json"
    }


def prepare(folder: Path) -> dict[str, Clean]:
    """The two recipes on slices of the corpora, and their clean builds."""
    for name in SOURCES:
        cut(DATA / "corpora" / f"{name}.jsonl.zst", folder / f"{name}.jsonl")
    sources = "\n".join(
        f'[sources.{name}]\nreader = "jsonl"\ndomain = "{name}"\nid = "id"\n'
        f'path = "{folder / name}.jsonl"\nunit_bytes = 100_000'
        for name in SOURCES
    )
    found = {}
    for label, dedup, tokenizer in (
        ("trained", "lines = true\nnear = true", "vocab_size = 1024\nsample_bytes = 300_000"),
        ("existing", "", f'path = "{folder}/trained-1/data/tokenizer"'),
    ):
        recipe = folder / f"{label}.toml"
        text = RECIPE.format(sources=sources, dedup=dedup, tokenizer=tokenizer)
        recipe.write_text(text, encoding="utf-8")
        found[label] = clean_builds(recipe, folder, label, WORKERS)
    return found


def clean_builds(recipe: Path, folder: Path, label: str, counts: Sequence[int]) -> Clean:
    """Builds by each number of workers; all must write the same."""
    seconds, contents = {}, {}
    for workers in counts:
        started = time.perf_counter()
        if start(recipe, folder / f"{label}-{workers}", workers).wait():
            raise SystemExit(recipe.with_suffix(".log").read_text(encoding="utf-8")[-3000:])
        seconds[workers] = round(time.perf_counter() - started, 2)
        contents[workers] = content(folder / f"{label}-{workers}" / "data")
        if contents[workers] != contents[1]:
            raise SystemExit(f"{label}: {workers} workers write other bytes than one")
    print(f"{label}: {len(contents[1])} files, clean builds take {seconds} s", flush=True)
    return Clean(recipe, contents[1], seconds)


def cut(path: Path, to: Path) -> None:
    """The first lines of a corpus."""
    size = 0
    with path.open("rb") as file, to.open("wb") as out:
        reader = io.BufferedReader(zstandard.ZstdDecompressor().stream_reader(file))
        for line in reader:
            json.loads(line)
            size += out.write(line)
            if size >= SLICE_BYTES:
                return


if __name__ == "__main__":
    sys.exit(main())
