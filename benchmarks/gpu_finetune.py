"""Fine-tuning on one GPU: rows per second beside transformers' Trainer, and what an encoder that
was pretrained here brings over random weights.

    python benchmarks/gpu_finetune.py [--only speed scores] [--encoder FOLDER] [--sets NAME ...]
        [--seeds N ...] [--fresh] [--quick]

The encoder is `--encoder`, say WORK/short/pretrain/export of gpu_pretrain.py, or MiniLM-L6 (test
environment). `speed` trains each public set of TEXTMILL_DATA (default ../shared/data) for two
epochs in bf16 on the GPU with `python -m finetune` and with the Trainer's drivers (TEXTMILL_PEERS,
default ../shared/peers), one after the other, same batches of 16 and rate; both say themselves how
many rows a second they trained on and evaluated. `scores` fine-tunes NCBI-disease and WNUT-17 from
the encoder and, by the recipe's own control, from random weights of its shape; strict entity F1 on
test, mean over seeds. Runs that results/gpu_finetune.json holds are not repeated unless `--fresh`.
`--quick` takes 100 rows, on a CPU if there is no GPU, and writes nothing.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import finetune_vs_trainer as both
import record
import torch
from fine_tuning import encoder, fine_tuned, recipe_of
from gpu_shapes import hardware
from labelled_sets import SETS, written
from rich.console import Console
from rich.table import Table

from runtime import provenance

NAME = "gpu_finetune"
SPEED_SETS = ("wnut17", "ncbi-disease", "banking77", "clinc150")
SCORE_SETS = ("ncbi-disease", "wnut17")
SPEED_EPOCHS, QUICK_ROWS = 2, 100
EPOCHS = {"ncbi-disease": 8, "wnut17": 8}  # random weights need more than a pretrained model


def main() -> None:
    arguments = parse()
    path = record.RESULTS / f"{NAME}.json"
    is_kept = path.is_file() and not arguments.fresh and not arguments.quick
    raw: list[dict[str, Any]] = provenance.read_json(path)["raw"] if is_kept else []

    def add(label: str, found: Mapping[str, Any]) -> None:
        raw[:] = [other for other in raw if other["label"] != label]
        raw.append({"label": label, "hardware": hardware(), **found})
        print(json.dumps(raw[-1]), flush=True)
        if not arguments.quick:
            record.write(NAME, figures(raw), raw)

    with tempfile.TemporaryDirectory() as name:
        rows = QUICK_ROWS if arguments.quick else None
        for part in arguments.only:
            sets = [it for it in SETS_OF[part] if it in arguments.sets]
            for found in sets:
                files = written(found, Path(name), rows)
                for label, work in PART_OF[part](arguments, found, files).items():
                    if not any(other["label"] == label for other in raw):
                        add(label, work())
    show(raw)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=SETS_OF, default=list(SETS_OF))
    parser.add_argument("--encoder", type=Path, help="folder; default: MiniLM-L6")
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--fresh", action="store_true", help="repeat what is recorded already")
    parser.add_argument("--quick", action="store_true", help="100 rows, no file")
    found = parser.parse_args()
    if not torch.cuda.is_available() and not found.quick:
        sys.exit("this benchmark needs a CUDA device; --quick tries everything at toy size")
    if found.encoder is not None:
        os.environ["TEXTMILL_ENCODER"] = str(found.encoder)
    return found


def speed(arguments: argparse.Namespace, name: str, files: dict[str, Path]) -> dict[str, Any]:
    """Ours and the Trainer's, each alone on the device."""
    seed, epochs = arguments.seeds[0], 1 if arguments.quick else SPEED_EPOCHS
    files = {"valid": files["test"]} | files
    on_device = {"USE_CPU": str(int(not torch.cuda.is_available()))}

    def run_of(system: str) -> both.Run:
        return both.Run(name, system, seed, "speeds", "bf16")

    return {
        f"ours speed {name}": lambda: both.ours(run_of("ours"), files, None, epochs),
        f"trainer speed {name}": lambda: both.trainer(
            run_of("trainer"), files, None, epochs, on_device
        ),
    }


def scores(arguments: argparse.Namespace, name: str, files: dict[str, Path]) -> dict[str, Any]:
    """The encoder and, beside it, random weights."""
    seeds = arguments.seeds[:1] if arguments.quick else arguments.seeds

    def run(seed: int) -> dict[str, Any]:
        task = {
            "kind": "ner",
            **{split: str(path) for split, path in files.items()},
            "epochs": 1 if arguments.quick else EPOCHS[name],
            "batch_size": 16, "micro_batch_size": 16, "learning_rate": 2e-4,
            "control_random_init": True,
        }  # fmt: skip
        with (
            tempfile.TemporaryDirectory() as folder,
            fine_tuned(recipe_of(task, seed, Path(folder), "bf16"), None) as home,
        ):
            report = provenance.read_json(home / "report.json")
        return {
            "set": name,
            "seed": seed,
            "encoder": str(arguments.encoder or encoder().name),
            "pretrained": report["test"]["metrics"]["f1"],
            "random": report["control"]["test"]["metrics"]["f1"],
        }

    source = arguments.encoder.parent.parent.name if arguments.encoder else "minilm"
    return {f"scores {source} {name} {seed}": lambda seed=seed: run(seed) for seed in seeds}


def figures(raw: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Rows a second and ratios by set; mean scores."""
    found: dict[str, float] = {}
    by = {line["label"]: line for line in raw}
    for name in SPEED_SETS:
        own, other = (by.get(f"{system} speed {name}") for system in ("ours", "trainer"))
        for part in ("train", "eval"):
            key = f"{part}_rows_per_s"
            if own is not None:
                found[f"{name}.{key}"] = own[key]
            if own is not None and other is not None:
                found[f"{name}.{part}_ratio"] = own[key] / other[key]
    for name in SCORE_SETS:
        lines = [line for line in raw if line.get("set") == name]
        for kind in ("pretrained", "random"):
            if lines:
                found[f"{name}.f1_{kind}"] = 100 * statistics.fmean(line[kind] for line in lines)
    return found


def show(raw: Sequence[Mapping[str, Any]]) -> None:
    """The figures on the console."""
    table = Table("figure", "value")
    for key, value in figures(raw).items():
        table.add_row(key, f"{value:,.2f}")
    Console().print(table)


SETS_OF = {"speed": SPEED_SETS, "scores": SCORE_SETS}
PART_OF = {"speed": speed, "scores": scores}

if __name__ == "__main__":
    main()
