"""10^9 samples opened and ordered: what a rank needs to begin, to take a step and to resume.

    python benchmarks/scale_samples.py [--quick] [--samples N]

The corpus has the real format, manifest and number of shards. Its bytes are not real: every shard
of a source is a hard link to the files of one shard of random tokens, so what is read comes from
the page cache. Opening, order, gathering, checks of blocks and masks are the code that trains, run
as rank 0 of 512 and, for comparison, of 8. Each line of the table is a process of its own, as
a rank is; a resume is nothing but a process that asks for another step first.
"""

import argparse
import hashlib
import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cost
import numpy as np
import record
from rich.console import Console
from rich.table import Table

from data_prep import shards
from data_prep.packing import Packing
from data_prep.permutation import WINDOW
from runtime import provenance

T = 512  # tokens per sample
SEGMENTS = 2  # of a sample
VOCAB = 30_000
SHARES = {"web": 0.7, "code": 0.2, "books": 0.1}  # of the samples
TOKENS_OF_RUN = 10**12
MICRO_BATCH = 16  # samples of a rank
WORLD_SIZE = 512
WINDOWS = 8  # of the shuffle, in which all ranks together read
SAMPLES, QUICK_SAMPLES = 10**9, 10**6
COSTS = ("wall_s", "cpu_s", "peak_mb", "grown_mb", "open_files")
COUNTS = ("manifest_mb", "steps", "step_cpu_s", "mapped_files", "block_mb_a_step",
          "checked_bytes_a_sample_byte")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_SAMPLES:,} samples")
    parser.add_argument("--samples", type=int, default=SAMPLES)
    told = parser.parse_args()
    num_samples = QUICK_SAMPLES if told.quick else told.samples
    with tempfile.TemporaryDirectory(prefix="textmill-scale-") as name:
        raw = measure(Path(name), num_samples)
    figures = {
        f"{row['what'].replace(' ', '_')}_{key}": row[key]
        for row in raw
        for key in (*COSTS, *COUNTS)
        if key in row
    }
    path = record.write("scale_samples", figures | {"samples": num_samples}, [cost.SHARED, *raw])
    table = Table("what", "wall s", "CPU s", "peak MB", "files open", "block MB a step",
                  title=f"{num_samples:,} samples")  # fmt: skip
    for row in raw:
        table.add_row(row["what"], f"{row['wall_s']:.3f}", f"{row['cpu_s']:.3f}",
                      f"{row['peak_mb']:.0f}", str(row["open_files"]),
                      f"{row.get('block_mb_a_step', 0):.1f}")  # fmt: skip
    Console().print(table)
    print(path)


def measure(folder: Path, num_samples: int) -> list[dict[str, Any]]:
    """Every part's cost."""
    with cost.of("write the manifest") as found:
        num_bytes = write(folder, num_samples)
    rows = [found.row() | {"manifest_mb": num_bytes / 1e6}]
    whole = TOKENS_OF_RUN * num_samples // SAMPLES
    steps = whole // (T * MICRO_BATCH * WORLD_SIZE)
    rows.append(alone(opening, folder) | {"steps": steps})
    for what, step in (("first", 0), ("middle", steps // 2), ("last", steps - 1)):
        rows.append(alone(one_step, folder, whole, step, f"{what} step"))
    for world_size in (WORLD_SIZE, 8):
        rows.append(alone(many_steps, folder, whole, world_size))
    return rows


def alone(work: Callable[..., dict[str, Any]], *told: Any) -> dict[str, Any]:
    """What the work returns, done in a new process."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(work, told)


def write(folder: Path, num_samples: int) -> int:
    """A corpus of so many samples; returns the size of its manifest in bytes."""
    per_shard = Packing().shard_tokens // T
    sources = {}
    for name, share in SHARES.items():
        held = folder / "sources" / name
        held.mkdir(parents=True)
        whole, rest = divmod(round(num_samples * share), per_shard)
        sizes = [per_shard] * whole + [rest] * (rest > 0)
        sources[name] = source_of(held, sizes)
    tokenizer = write_tokenizer(folder / "tokenizer")
    manifest = {"format": shards.FORMAT, "inputs": "made up", "sequence_length": T,
                "tokenizer": tokenizer, "config": {}, "sources": sources}  # fmt: skip
    manifest["fingerprint"] = shards.manifest_fingerprint(manifest)
    provenance.write_json(folder / "manifest.json", manifest)
    return (folder / "manifest.json").stat().st_size


def source_of(folder: Path, sizes: Sequence[int]) -> dict[str, Any]:
    """The shards of a source and its entry in the manifest."""
    entries = [{"num_documents": size, "documents_cut": 0, **shard} for size, shard in
               zip(sizes, linked(folder, sizes), strict=True)]  # fmt: skip
    for number, entry in enumerate(entries):  # the slices of units that its documents came from
        entry["units"] = [[number, 0, 12_345], [number + 1, 0, 678]]
    none = shards.split_of([], T)
    return {
        "domain": folder.name,
        "documents": {"kept": sum(sizes)},
        "splits": {"train": shards.split_of(entries, T), "valid": none},
    }


def linked(folder: Path, sizes: Sequence[int]) -> list[dict[str, Any]]:
    """Shards of these sizes, those of one size being the same files under many names."""
    made: dict[int, dict[str, Any]] = {}
    found = []
    for number, size in enumerate(sizes):
        name = f"train-{number:05d}"
        if size not in made:
            made[size] = one_shard(folder, name, size)
        else:
            for kind in shards.KINDS:
                os.link(folder / f"{made[size]['name']}.{kind}.npy", folder / f"{name}.{kind}.npy")
        found.append(made[size] | {"name": name})
    return found


def one_shard(folder: Path, name: str, size: int) -> dict[str, Any]:
    rng = np.random.default_rng(size)
    tokens = rng.integers(10, VOCAB, (size, T), dtype=np.uint16)
    segments = size * SEGMENTS
    return shards.write_shard(
        folder,
        name,
        [tokens],
        lengths=np.full(segments, T // SEGMENTS, np.int32),
        offsets=np.arange(size + 1, dtype=np.int64) * SEGMENTS,
        documents=np.arange(segments, dtype=np.uint64),
        starts=np.arange(segments, dtype=np.int64) * (T // SEGMENTS),
    )


def write_tokenizer(folder: Path) -> dict[str, Any]:
    """A tokenizer folder that holds what training reads; returns its entry in the manifest."""
    folder.mkdir()
    vocabulary = {f"token{number}": number for number in range(VOCAB)}
    model = {"type": "WordPiece", "continuing_subword_prefix": "##", "vocab": vocabulary}
    provenance.write_json(folder / "tokenizer.json", {"added_tokens": [], "model": model})
    lengths = np.full(VOCAB, 4, np.int32)
    lengths[:5] = 0
    np.save(folder / "token_bytes.npy", lengths)
    files = shards.tokenizer_files(folder)
    names = ("pad_id", "cls_id", "sep_id", "mask_id", "unk_id")
    return {
        "fingerprint": files["tokenizer.json"],
        "files": files,
        "vocab_size": VOCAB,
        **{name: number for number, name in enumerate(names)},
        "special_ids": list(range(5)),
    }


def opening(folder: Path) -> dict[str, Any]:
    with cost.of("open") as found:
        corpus = shards.Corpus(folder)
        readers = [corpus.reader(name, "train") for name in corpus.sources]
    assert sum(reader.num_samples for reader in readers) > 0
    return found.row()


def batches_of(folder: Path, tokens: int, rank: int, world_size: int) -> Any:
    """The batches of a rank, as pretraining makes them."""
    from data_prep.mixture import Mixture, shares_of
    from pretrain.batches import MixtureBatches, of_phase
    from pretrain.budget import budget_of
    from pretrain.config import Objective, Train
    from pretrain.masker import Masker

    corpus = shards.Corpus(folder)
    train = Train(
        total_tokens=tokens,
        global_batch_size=MICRO_BATCH * world_size,
        micro_batch_size=MICRO_BATCH,
    )
    budget = budget_of(train, corpus.sequence_length)
    data = of_phase(0, corpus, shares_of(Mixture(), corpus), seed=0)
    return MixtureBatches(Masker(corpus, Objective(), 0, 0), [data], budget, rank, world_size)


def one_step(folder: Path, tokens: int, step: int, what: str) -> dict[str, Any]:
    """From nothing to the inputs of a step: a start or a resume, apart from imports."""
    import pretrain.masker  # noqa: F401  (torch is not what is measured)

    with cost.of(f"start at the {what}") as found:
        batches = batches_of(folder, tokens, 0, WORLD_SIZE)
        wall, cpu = time.perf_counter(), time.process_time()
        (batch,) = batches.micro_batches(step)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    assert step < batches.total_steps
    return found.row() | {
        "step_wall_s": round(wall, 4),
        "step_cpu_s": round(cpu, 4),
        "sha256": digest(batch),
    }


def digest(batch: Any) -> str:
    """SHA-256 of the tokens of a micro batch as the model sees them."""
    return hashlib.sha256(batch.inputs["input_ids"].numpy().tobytes()).hexdigest()


def many_steps(folder: Path, tokens: int, world_size: int) -> dict[str, Any]:
    """Steps in a row: what a rank reads, checks and keeps open."""
    batches = batches_of(folder, tokens, 0, world_size)
    batches.micro_batches(0)
    readers = batches.phases[0].readers
    for reader in readers:
        reader.mapped.clear()
    count = min(WINDOWS * WINDOW // (MICRO_BATCH * world_size), batches.total_steps)
    with cost.of(f"rank 0 of {world_size}") as found:
        for step in range(count):
            batches.micro_batches(step)
        mapped = [file for reader in readers for file in reader.mapped.values()]
        checked = sum(checked_bytes(file) for file in mapped)
    return found.row() | {
        "steps": count,
        "mapped_files": len(mapped),
        "block_mb_a_step": checked / count / 1e6,
        "checked_bytes_a_sample_byte": checked / (count * MICRO_BATCH * T * 2),
    }


def checked_bytes(file: Any) -> int:
    """Bytes of the blocks of a file that were compared with the manifest."""
    places = np.flatnonzero(file.is_checked)
    ends = np.minimum((places + 1) * shards.BLOCK_BYTES, file.entry["bytes"])
    return int((ends - places * shards.BLOCK_BYTES).sum())


if __name__ == "__main__":
    main()
