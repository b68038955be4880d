"""Pretraining on one GPU: correctness, tokens per second beside transformers, what each technique
brings, a profile, a short real run.

    python benchmarks/gpu_pretrain.py [--only PART ...] [--shapes NAME ...] [--lengths N ...]
        [--work FOLDER] [--minutes N] [--fresh] [--quick]

`correctness` runs the tests marked `gpu`. `throughput` trains each shape with `python -m pretrain`
in bf16 on packed text of TEXTMILL_DATA (default ../shared/data) and reads what it logs: real tokens
per second, padding left out, and the share of the peak that matrix products reach in the same run;
beside it a plain loop of transformers (`gpu_loop.py`) on the same text, padded with sdpa and
unpadded with every attention that its installation has. `ablation` takes one technique at a time
away from the first of `--shapes`, or puts one in its place (`gpu_variants.py`). `profile` lists the
kernels of three of its steps in results/gpu_pretrain_profile.txt. `run` pretrains one shape for
`--minutes` and records loss curve and bits per byte of every domain; its encoder stays in
WORK/short/pretrain/export, where gpu_finetune.py takes it.

Text, tokenizer and shards are made in `--work` and used again from there. Runs that the result file
holds are not repeated unless `--fresh`; parts can be called one after the other. `--quick` takes
small shapes and few steps, on a CPU if there is no GPU, and writes no result.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import record
import tomli_w
import torch
from gpu_shapes import ALL, QUICK, SHAPES, VARIANTS, hardware
from rich.console import Console
from rich.table import Table

from data_prep.shards import Corpus
from pretrain.config import Model
from pretrain.model.build import shape as config_of
from runtime import provenance

ROOT = Path(__file__).resolve().parent.parent
DATA = Path(os.environ.get("TEXTMILL_DATA", ROOT.parent / "shared/data"))
NAME = "gpu_pretrain"
PARTS = ("correctness", "throughput", "ablation", "profile", "run")
DOMAINS = ("wiki", "books", "docs", "legal", "code")
WARMUP, STEPS, WINDOW = 8, 12, 4  # steps not counted, counted, and of one logged line
ACCUMULATION = 4  # micro batches a step


@dataclass
class Bench:
    """Where everything is, and what was measured."""

    arguments: argparse.Namespace
    work: Path
    raw: list[dict[str, Any]] = field(default_factory=list)

    @property
    def is_quick(self) -> bool:
        return bool(self.arguments.quick)

    def has(self, label: str) -> bool:
        return any(found["label"] == label for found in self.raw)

    def add(self, label: str, **found: Any) -> None:
        """Keep a result, in the file too."""
        self.raw = [other for other in self.raw if other["label"] != label]
        self.raw.append({"label": label, "hardware": hardware(), **found})
        print(json.dumps(self.raw[-1]), flush=True)
        if not self.is_quick:
            record.write(NAME, figures(self.raw), self.raw)


def main() -> None:
    arguments = parse()
    path = record.RESULTS / f"{NAME}.json"
    is_kept = path.is_file() and not arguments.fresh and not arguments.quick
    raw = provenance.read_json(path)["raw"] if is_kept else []
    with tempfile.TemporaryDirectory() as name:
        bench = Bench(arguments, (arguments.work or Path(name)).absolute(), raw)
        bench.work.mkdir(parents=True, exist_ok=True)
        for part in arguments.only:
            PART_OF[part](bench)
        show(bench.raw)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--shapes", nargs="+", choices=ALL)
    parser.add_argument("--lengths", nargs="+", type=int, default=None, help="tokens a sample")
    parser.add_argument("--work", type=Path, help="folder to keep text, shards and encoder in")
    parser.add_argument("--minutes", type=float, default=8.0, help="of the short run")
    parser.add_argument("--fresh", action="store_true", help="repeat what is recorded already")
    parser.add_argument("--quick", action="store_true", help="small shapes, no file")
    found = parser.parse_args()
    found.shapes = found.shapes or list(QUICK if found.quick else SHAPES)
    found.lengths = found.lengths or ([64, 128] if found.quick else [1024, 512])
    if not torch.cuda.is_available() and not found.quick:
        sys.exit("this benchmark needs a CUDA device; --quick tries everything at toy size")
    return found


def correctness(bench: Bench) -> None:
    """The tests marked `gpu`, which skip themselves without one."""
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "tests"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    last = done.stdout.strip().splitlines()[-1] if done.stdout.strip() else done.stderr[-500:]
    bench.add("correctness", exit_code=done.returncode, summary=last)
    if done.returncode:
        sys.exit(done.stdout[-6000:])


def throughput(bench: Bench) -> None:
    """Ours and the loops of transformers, shape by shape."""
    for name in bench.arguments.shapes:
        for length in bench.arguments.lengths:
            label = f"{name} {length}"
            if not bench.has(f"ours {label}"):
                bench.add(f"ours {label}", **trained(bench, name, length))
            for mode in ("padded", "masked", "masked-compiled", "flash", "flex"):
                if not bench.has(f"{mode} {label}"):
                    bench.add(f"{mode} {label}", **loop(bench, name, length, mode))


def ablation(bench: Bench) -> None:
    """One technique at a time taken away or replaced."""
    name, length = bench.arguments.shapes[0], max(bench.arguments.lengths)
    for variant, settings in VARIANTS.items():
        label = f"ablation {name} {length} {variant}"
        if bench.has(label):
            continue
        overrides = [setting for setting in settings if "=" in setting]
        patch = next((setting for setting in settings if "=" not in setting), None)
        try:
            bench.add(label, **trained(bench, name, length, overrides, patch))
        except RuntimeError as error:  # an idea that does not run is a result, too
            bench.add(label, error=str(error)[-1500:])


def profile(bench: Bench) -> None:
    """The kernels of three steps, by their time."""
    name, length = bench.arguments.shapes[0], max(bench.arguments.lengths)
    trained(bench, name, length, ["engine.compile=true"], "profile")
    found = bench.work / "bench/profile.txt"
    print(found.read_text(encoding="utf-8")[:6000])
    if not bench.is_quick:
        shutil.copy(found, record.RESULTS / f"{NAME}_profile.txt")


def short_run(bench: Bench) -> None:
    """Minutes of real pretraining: the curve, and bits per byte of each domain."""
    minutes = 0.3 if bench.is_quick else bench.arguments.minutes
    shape = "32m" if "32m" in bench.arguments.shapes else bench.arguments.shapes[-1]
    length = max(bench.arguments.lengths)
    recipe = recipe_of(bench, shape, length)
    recipe["output"] = str(bench.work / "short")
    share_shards(bench, Path(recipe["output"]))
    batch = recipe["train"]["global_batch_size"]
    recipe["train"] |= {
        "budget_minutes": minutes, "total_tokens": 20_000_000_000, "validation_samples": 256,
        "evaluate_every_steps": 100, "ramp_from": max(batch // 4, 1), "ramp_share": 0.001,
    }  # fmt: skip
    recipe["schedule"] = {"shape": "wsd", "warmup_share": 0.05, "decay_share": 0.25}
    if bench.is_quick:
        recipe["train"] |= {"total_tokens": 100_000, "validation_samples": 8}
        del recipe["train"]["ramp_from"], recipe["train"]["ramp_share"]
    lines = run(bench, recipe)
    evaluated = [line for line in lines if "loss/valid" in line]
    kept = ("step", "data/tokens", "loss/valid", "eval/bits_per_byte")
    curve = [
        {name: value for name, value in line.items() if name in kept or "by_domain" in name}
        for line in evaluated
    ]
    bench.add(f"short run {shape} {length}", minutes=minutes, curve=curve)


def recipe_of(bench: Bench, name: str, length: int) -> dict[str, Any]:
    """A pretraining of one shape, long enough to be timed."""
    shape = ALL[name]
    longest = max(bench.arguments.lengths)
    micro = max(shape.micro_tokens // length, 1)
    batch = micro * ACCUMULATION
    steps = 6 if bench.is_quick else WARMUP + STEPS
    return {
        "name": "bench",
        "output": str(bench.work / "bench"),
        **text_of(bench, longest),
        "model": {**shape.table, "max_positions": longest},
        "optimizer": {"learning_rate": 1e-3 if name in ("17m", "32m") else 5e-4},
        "engine": {"ds_config": "zero0", "compile": not bench.is_quick, "precision": "bf16"},
        "train": {
            "total_tokens": steps * batch * length,
            "global_batch_size": batch,
            "micro_batch_size": micro,
            "evaluate_every_steps": 1_000_000,
            "validation_samples": 1,
            # shorter samples are packed from the same shards
            "phases": [{"share": 1.0, "sequence_length": length}] if length < longest else [],
        },
        "track": {"interval_steps": 1 if bench.is_quick else WINDOW},
        "checkpoint": {"interval_steps": 1_000_000, "keep_last": 1},
    }


def text_of(bench: Bench, longest: int) -> dict[str, Any]:
    """Sources, tokenizer and packing; test texts of the tasks of gpu_finetune.py are left out."""
    some = {"max_documents": 150} if bench.is_quick else {}
    tasks = {"ncbi-disease": "test.txt", "wnut17": "emerging.test.annotated"}
    return {
        "launch": {"ranks": 1},
        "sources": {
            name: {
                "reader": "jsonl", "id": "id", "domain": name,
                "path": str(DATA / f"corpora/{name}.jsonl.zst"), **some,
            }
            for name in DOMAINS
        },
        "decontaminate": {
            "sets": {
                name: {
                    "reader": "conll", "path": str(DATA / "tasks" / name / file),
                    "sentences_per_document": 1,
                }
                for name, file in tasks.items()
            }
        },
        "tokenizer": {"vocab_size": 2048 if bench.is_quick else 50_368},
        "packing": {"sequence_length": longest, "valid_share": 0.1 if bench.is_quick else 0.01},
    }  # fmt: skip


def share_shards(bench: Bench, output: Path) -> None:
    """Shards are built once, in `bench`; another output gets a link."""
    recipe = recipe_of(bench, bench.arguments.shapes[0], max(bench.arguments.lengths))
    build(bench, recipe)
    output.mkdir(parents=True, exist_ok=True)
    if not (output / "data").exists():
        shutil.copytree(bench.work / "bench/data", output / "data")


def build(bench: Bench, recipe: Mapping[str, Any]) -> None:
    """`python -m data_prep`, which does nothing where the shards stand already."""
    call("data_prep", [sys.executable, "-m", "data_prep", str(written(bench, recipe))])


def trained(
    bench: Bench,
    name: str,
    length: int,
    overrides: Sequence[str] = (),
    patch: str | None = None,
) -> dict[str, Any]:
    """One pretraining: tokens per second and share of the peak after the warm-up."""
    recipe = recipe_of(bench, name, length)
    lines = run(bench, recipe, overrides, patch)
    counted = [line for line in lines if line["step"] > (2 if bench.is_quick else WARMUP)]
    starts = provenance.read_json(bench.work / "bench/pretrain/throughput.json")["starts"]
    seconds = sum(line["perf/seconds_per_step"] for line in counted)
    mean = lambda tag: sum(line.get(tag, 0.0) for line in counted) / len(counted)  # noqa: E731
    return {
        "tokens_per_s": len(counted) / sum(1 / line["perf/tokens_per_second"] for line in counted),
        "mfu": mean("perf/mfu"),
        "data_wait_share": mean("perf/data_wait_share"),
        "device_peak_gib": max(line.get("mem/device_peak_gib", 0.0) for line in counted),
        "peak_tflops": starts[0]["peak"]["flops"] / 1e12,
        "seconds_per_step": seconds / len(counted),
        "parts": {part: mean(f"perf/share_{part}") for part in starts[0]["parts"]},
        "micro_batch_size": recipe["train"]["micro_batch_size"],
        "losses": [line["loss/train"] for line in counted],
    }


def run(
    bench: Bench,
    recipe: Mapping[str, Any],
    overrides: Sequence[str] = (),
    patch: str | None = None,
) -> list[dict[str, Any]]:
    """Build and pretrain from the start; the logged lines after step 0."""
    build(bench, recipe)
    home = Path(recipe["output"]) / "pretrain"
    shutil.rmtree(home, ignore_errors=True)
    path = written(bench, recipe)
    start = ["-m", "pretrain"]
    if patch is not None:
        start = [str(Path(__file__).with_name("gpu_variants.py")), patch]
    call(patch or "pretrain", [sys.executable, *start, str(path), *overrides])
    shutil.rmtree(home / "checkpoints", ignore_errors=True)  # gigabytes
    lines = (home / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [line for line in map(json.loads, lines) if line["step"]]


def loop(bench: Bench, name: str, length: int, mode: str) -> dict[str, Any]:
    """The plain loop of transformers on the same text."""
    recipe = recipe_of(bench, name, length)
    build(bench, recipe)
    config = bench.work / "config"
    facts = Corpus(bench.work / "bench/data").tokenizer
    config_of(Model(**recipe["model"]), facts, length).save_pretrained(config)
    output = bench.work / "loop.json"
    given = {
        "config": str(config), "shards": str(bench.work / "bench/data"), "length": length,
        "mode": mode, "micro_tokens": ALL[name].micro_tokens,
        "accumulation": ACCUMULATION, "output": str(output),
        "steps": [1, 2] if bench.is_quick else [3, 6],
    }  # fmt: skip
    command = [sys.executable, str(Path(__file__).with_name("gpu_loop.py")), json.dumps(given)]
    try:
        call(mode, command)
    except RuntimeError as error:  # an attention that is not installed, too little memory
        return {"error": str(error).strip().splitlines()[-1][-500:]}
    return dict(json.loads(output.read_text(encoding="utf-8")))


def written(bench: Bench, recipe: Mapping[str, Any]) -> Path:
    path = bench.work / "recipe.toml"
    path.write_text(tomli_w.dumps(recipe), encoding="utf-8")
    return path


def call(label: str, command: Sequence[str]) -> None:
    """Run a command to its end; raises RuntimeError with the end of its output if it fails."""
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{os.environ.get('PYTHONPATH', '')}"}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"{label} ended with {done.returncode}:\n{done.stdout[-3000:]}")


def figures(raw: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Tokens per second, shares of the peak and ratios, by shape and length."""
    speeds = {found["label"]: found["tokens_per_s"] for found in raw if "tokens_per_s" in found}
    figures = {}
    for found in raw:
        kind, _, rest = found["label"].partition(" ")
        if "tokens_per_s" not in found or kind not in ("ours", "ablation"):
            continue
        key = rest.replace(" ", ".")
        figures[f"{'' if kind == 'ours' else 'ablation.'}{key}.tokens_per_s"] = found[
            "tokens_per_s"
        ]
        if kind == "ablation":
            continue
        figures[f"{key}.mfu_of_measured_peak"] = found["mfu"]
        if f"padded {rest}" in speeds:
            figures[f"{key}.ratio_padded"] = speeds[found["label"]] / speeds[f"padded {rest}"]
        others = [
            speeds[f"{mode} {rest}"]
            for mode in ("masked", "masked-compiled", "flash", "flex")
            if f"{mode} {rest}" in speeds
        ]
        if others:
            figures[f"{key}.ratio_unpadded"] = speeds[found["label"]] / max(others)
    return figures


def show(raw: Sequence[Mapping[str, Any]]) -> None:
    """Everything on the console."""
    table = Table("run", "tokens/s", "MFU", "data wait", "GiB", "remark")
    for found in raw:
        remark = str(found.get("error", found.get("summary", ""))).replace("\n", " ")[-60:]
        table.add_row(
            found["label"],
            *(
                f"{found[name]:{form}}" if name in found else ""
                for name, form in (
                    ("tokens_per_s", ",.0f"), ("mfu", ".2f"), ("data_wait_share", ".3f"),
                    ("device_peak_gib", ".1f"),
                )
            ),
            remark,
        )  # fmt: skip
    Console().print(table)


PART_OF = {
    "correctness": correctness,
    "throughput": throughput,
    "ablation": ablation,
    "profile": profile,
    "run": short_run,
}

if __name__ == "__main__":
    main()
