"""The checkpoint of 512 ranks: its files sealed, its manifest written, verified and pruned.

    python benchmarks/scale_checkpoint.py [--quick] [--ranks N]

As many files as DeepSpeed writes under ZeRO-3, with its names: parameters, optimizer state and
generators of each rank. Their content is some kB; so this is what the number of files costs, and
bytes come on top (16 a parameter, written, hashed and, at a start, read and hashed again). One
process does the work that 512 ranks share, but for the listing and the manifest, which are rank 0's
alone. Beside it: the ledgers of all ranks and the lines of the metrics, for a run of 10^12 tokens.
"""

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import cost
import record
from rich.console import Console
from rich.table import Table

from runtime import checkpoint, config, provenance, retention, seals
from runtime.tensorboard_summaries import scalars

RANKS, QUICK_RANKS = 512, 16
KEPT = 3  # checkpoints: the last two and the best
CONTENT = b"x" * 4096
NAMES = (
    "step/zero_pp_rank_{rank}_mp_rank_00_model_states.pt",
    "step/bf16_zero_pp_rank_{rank}_mp_rank_00_optim_states.pt",
    "rng-{rank:05d}.pt",
)
STEPS = 238_419  # of 4,194,304 tokens in 10^12
TABLE = config.Checkpoint(interval_steps=1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_RANKS} ranks")
    parser.add_argument("--ranks", type=int, default=RANKS)
    told = parser.parse_args()
    ranks = QUICK_RANKS if told.quick else told.ranks
    with tempfile.TemporaryDirectory(prefix="textmill-scale-") as name:
        raw = [*measure(Path(name), ranks), *logs(ranks)]
    figures: dict[str, float] = {"ranks": ranks}
    for row in raw:
        what = str(row["what"]).replace(" ", "_")
        figures |= {f"{what}_{key}": value for key, value in row.items() if key != "what"}
    path = record.write("scale_checkpoint", figures, [cost.SHARED, *raw])
    table = Table("what", "wall s", "CPU s", "more", title=f"{ranks} ranks")
    known = ("what", "wall_s", "cpu_s", "peak_mb", "grown_mb", "open_files")
    for row in raw:
        more = ", ".join(f"{key} {value:,.6g}" for key, value in row.items() if key not in known)
        table.add_row(
            row["what"], f"{row.get('wall_s', 0):.2f}", f"{row.get('cpu_s', 0):.2f}", more
        )
    Console().print(table)
    print(path)


def measure(folder: Path, num_ranks: int) -> list[dict[str, Any]]:
    """The cost of each part, of one checkpoint."""
    steps = range(1, KEPT + 2)
    for step in steps:
        write_files(folder / f"step-{step:08d}.tmp", num_ranks)
    rows = []
    for step in steps:  # the last one's costs are kept
        temporary, final = folder / f"step-{step:08d}.tmp", retention.path_of(folder, step)
        with cost.of("list") as listing:
            names = checkpoint.listed(temporary)
        with cost.of("fsync and hash") as sealing:
            files = checkpoint.seal_files(temporary)
        assert sorted(files) == names
        manifest = {
            "format": seals.FORMAT,
            "version": seals.VERSION,
            "position": {"step": step},
            "world_size": num_ranks,
            "files": files,
        }
        with cost.of("write the manifest") as publishing:
            seals.write_manifest(temporary, manifest)
            temporary.rename(final)
            provenance.fsync_folder(folder)
        size = (final / seals.MANIFEST).stat().st_size
        rows = [
            listing.row() | {"files": len(names)},
            sealing.row() | {"fsyncs": len(names)},
            publishing.row() | {"bytes": size},
        ]
    with cost.of("verify") as verifying:
        fault = seals.first_fault(final)
    assert fault is None, fault
    with cost.of("make room") as room:
        retention.make_room(folder, 1, None)
    with cost.of("prune") as pruning:
        retention.prune(folder, steps[-1], TABLE)
    left = retention.steps(folder)
    assert left == list(steps)[-TABLE.keep_last :], left
    removed = (len(steps) - len(left)) * (len(names) + 1)
    return [*rows, verifying.row(), room.row(), pruning.row() | {"files_removed": removed}]


def write_files(folder: Path, num_ranks: int) -> None:
    (folder / "step").mkdir(parents=True)
    for rank in range(num_ranks):
        for name in NAMES:
            (folder / name.format(rank=rank)).write_bytes(CONTENT)


def logs(num_ranks: int) -> list[dict[str, Any]]:
    """Bytes that a run of 10^12 tokens leaves in ledgers and metrics; no file is written."""
    record_of_step = {
        "step": STEPS, "data_step": STEPS - 1, "loss": (1.2345678).hex(),
        "gradient_norm": (0.98765).hex(), "learning_rate": (1e-4).hex(),
        "micro_batches": ["0" * 64],
    }  # fmt: skip
    line = len(json.dumps(record_of_step)) + 1
    tags = {f"perf/some_figure_{number:02d}": 1.2345678 for number in range(40)}
    metrics = len(json.dumps({"step": STEPS, "time": 1.7e9} | tags)) + 1
    events = scalars(tags).ByteSize() + 40  # of its place in the file
    times = STEPS // config.Track().interval_steps
    return [
        {"what": "ledger", "bytes_a_rank": line * STEPS, "bytes": line * STEPS * num_ranks},
        {"what": "metrics", "bytes": metrics * times, "tensorboard_bytes": events * times},
    ]


if __name__ == "__main__":
    main()
