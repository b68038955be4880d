"""Reading batches of samples from shards, beside a bare numpy gather of the same rows.

    python benchmarks/read_shards.py [--quick]

Writes a corpus of random tokens in 512-token samples and shards of the default size, and reads
every sample of it in batches of 4,096, in two orders: `training` is the mixture's own order of a
source, `sorted` is batches of random samples, each sorted by place. The bare gather is
`numpy.take` of the same rows, in the same batches, out of one array mapped from one file of the
same samples: no checks, no shards. Two measures: tokens only, and complete rows (tokens, segment
lengths, documents). All is read once before it is timed, so blocks are checked and in the page
cache. CPU seconds of this process; best of five rounds, ours and bare in turn.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import record
from rich.console import Console
from rich.table import Table

from data_prep import shards
from data_prep.mixture import epoch_keys
from data_prep.packing import Packing
from data_prep.permutation import shuffled
from data_prep.shards import Reader

T = 512  # tokens per sample
BATCH = 4096  # samples
ROUNDS = 5
SEGMENTS = 3  # of a sample, on average


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a tenth of the samples")
    num_samples = 1 << (15 if parser.parse_args().quick else 18)
    with tempfile.TemporaryDirectory(prefix="textmill-read-") as name:
        reader, bare = write(Path(name), num_samples)
        figures, raw = measure(reader, bare)
    path = record.write("read_shards", figures, raw)
    table = Table("order", "what", "M samples/s", "bare gather", "ours / bare", title="read_shards")
    for row in raw:
        table.add_row(row["order"], row["what"], f"{row['ours']:.2f}", f"{row['bare']:.2f}",
                      f"{row['ours'] / row['bare']:.2f}")  # fmt: skip
    Console().print(table)
    print(path)


def write(folder: Path, num_samples: int) -> tuple[Reader, np.ndarray]:
    """A source of shards, and the same tokens in one mapped array."""
    rng = np.random.default_rng(0)
    per_shard = Packing().shard_tokens // T
    whole = np.lib.format.open_memmap(
        folder / "whole.npy", mode="w+", dtype=np.uint16, shape=(num_samples, T)
    )
    entries = []
    for number, start in enumerate(range(0, num_samples, per_shard)):
        size = min(per_shard, num_samples - start)
        tokens = whole[start : start + size]
        tokens[:] = rng.integers(0, 30_000, (size, T), dtype=np.uint16)
        counts = rng.integers(1, 2 * SEGMENTS, size)
        offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        lengths = np.full(offsets[-1], T // (2 * SEGMENTS), np.int32)
        documents = np.arange(len(lengths), dtype=np.uint64)
        starts = np.arange(len(lengths)) * T
        entries.append(
            shards.write_shard(
                folder, f"train-{number:05d}", [tokens], lengths, offsets, documents, starts
            )
        )
    facts = {"num_samples": num_samples, "num_tokens": 0, "num_documents": 0, "shards": entries}
    mapped = np.load(folder / "whole.npy", mmap_mode="r")
    return Reader(folder, facts, T), np.asarray(mapped)


def orders(num_samples: int) -> dict[str, np.ndarray]:
    """Every sample once, (batches, BATCH)."""
    keys = epoch_keys(0, 0, np.zeros(num_samples, np.int64))
    training = shuffled(np.arange(num_samples), num_samples, keys).reshape(-1, BATCH)
    random = np.random.default_rng(1).permutation(num_samples).reshape(-1, BATCH)
    return {"training": training, "sorted": np.sort(random, axis=1)}


def measure(reader: Reader, bare: np.ndarray) -> tuple[dict[str, float], list[dict[str, Any]]]:
    """Samples per CPU second, in millions."""

    def gather(batch: np.ndarray) -> Any:
        return np.take(bare, batch, axis=0)

    figures, raw = {}, []
    for order, batches in orders(reader.num_samples).items():
        ways: dict[str, Callable[[np.ndarray], Any]] = {
            "bare": gather, "tokens": reader.tokens, "rows": reader.gather
        }  # fmt: skip
        for batch in batches[::8]:
            assert (reader.gather(batch).tokens == gather(batch)).all()
        best = dict.fromkeys(ways, 0.0)
        for turn in range(ROUNDS + 1):  # the first one warms up
            for name, way in ways.items():
                seconds = cpu_seconds(way, batches)
                if turn:
                    best[name] = max(best[name], batches.size / seconds / 1e6)
        for what in ("tokens", "rows"):
            figures[f"{order}_{what}_million_samples_per_cpu_second"] = best[what]
            figures[f"{order}_{what}_share_of_bare_gather"] = best[what] / best["bare"]
            raw.append({"order": order, "what": what, "ours": best[what], "bare": best["bare"]})
    return figures, raw


def cpu_seconds(way: Callable[[np.ndarray], Any], batches: np.ndarray) -> float:
    started = time.process_time()
    for batch in batches:
        way(batch)
    return time.process_time() - started


if __name__ == "__main__":
    main()
