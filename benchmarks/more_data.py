"""What more domains bring: one model, one token budget, 1, 2 and 4 domains, fixed and re-weighted.

    python benchmarks/more_data.py [--quick]

Cuts the same number of bytes from four of TEXTMILL_DATA/corpora, at most 16,000 characters of a
document and evenly over all documents, and from a fifth that no run trains on. One tokenizer, one
model and one token budget for all runs; no run repeats text. Every run is a recipe given to `python
-m launch run`, differs in [mixture] alone and is evaluated on the same held-out part of all five
domains, also of those it was not trained on: masked bits per byte at the end. `fixed` gives each
domain the same share throughout, `re-weighted` begins so and follows ADO (pretrain/reweighting.py).
Writes results/more_data.json and a picture beside it. One run of each with one seed: differences
below a percent say nothing. `--quick` takes little text and 25 steps a run on one rank, shows that
all works, and records nothing.
"""

import argparse
import io
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import record
import zstandard
from rich.console import Console
from rich.table import Table

matplotlib.use("Agg")
from matplotlib import pyplot as plt

ROOT = Path(__file__).resolve().parent.parent
DATA = Path(os.environ.get("TEXTMILL_DATA", ROOT.parent / "shared/data"))
DOMAINS = ("books", "docs", "legal", "code")  # in the order in which runs add them
UNSEEN = "wiki"
MOST_CHARACTERS = 16_000  # of a document
NOTHING = 0.01  # a relative difference that one seed cannot tell from none
RECIPE = """
name = "more-data"
output = "{output}"

[launch]
ranks = {ranks}
{sources}
[tokenizer]
vocab_size = {vocab_size}
sample_bytes = {sample_bytes}

[packing]
sequence_length = 128
valid_share = {valid_share}

[mixture]
strategy = "{strategy}"
weights = {{ {weights} }}

[model]
architecture = "modernbert"
num_layers = 4
hidden_size = 192
num_heads = 3
intermediate_size = 384
local_window = 64
global_every = 2

[train]
total_tokens = {total_tokens}
global_batch_size = 8
micro_batch_size = 4
evaluate_every_steps = {evaluate_every_steps}
validation_samples = {validation_samples}

[optimizer]
learning_rate = 1.5e-3

[schedule]
shape = "wsd"
warmup_share = 0.05
decay_share = 0.3

[engine]
ds_config = "zero1"
precision = "fp32"
threads_per_rank = 1

[checkpoint]
interval_steps = 100_000
keep_last = 1

[track]
interval_steps = 50
"""


@dataclass(frozen=True)
class Size:
    """How much of everything."""

    slice_bytes: int  # of text a domain
    valid_share: float  # of it, held out
    vocab_size: int
    sample_bytes: int  # that the tokenizer is trained on
    ranks: int
    total_tokens: int
    evaluate_every_steps: int
    validation_samples: int  # a domain


FULL = Size(9_000_000, 0.03, 8192, 4_000_000, 2, 600_000, 60, 96)
QUICK = Size(600_000, 0.2, 1024, 500_000, 1, 25_000, 4, 16)


@dataclass(frozen=True)
class Run:
    """One training and what came of it."""

    num_domains: int
    is_reweighted: bool
    seconds: float
    bits_per_byte: dict[str, float]  # of each domain at the end
    weights: list[dict[str, Any]]  # of each domain, by step; empty for a fixed mixture
    evaluations: list[dict[str, Any]]

    @property
    def name(self) -> str:
        suffix = "_reweighted" if self.is_reweighted else ""
        return f"{self.num_domains}_domains{suffix}"

    @property
    def label(self) -> str:
        domains = f"{self.num_domains} domain{'s' if self.num_domains > 1 else ''}"
        return f"{domains}, {'re-weighted' if self.is_reweighted else 'fixed'}"

    @property
    def mean(self) -> float:
        """Over the four domains, each counting the same, trained on or not."""
        return sum(self.bits_per_byte[domain] for domain in DOMAINS) / len(DOMAINS)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a minute, nothing recorded")
    is_quick = parser.parse_args().quick
    size = QUICK if is_quick else FULL
    with tempfile.TemporaryDirectory(prefix="textmill-more-data-") as name:
        folder = Path(name)
        for domain in (*DOMAINS, UNSEEN):
            cut(DATA / f"corpora/{domain}.jsonl.zst", folder / f"{domain}.jsonl", size.slice_bytes)
        runs = [
            trained(folder, size, num_domains, is_reweighted)
            for num_domains in (1, 2, 4)
            for is_reweighted in ((False, True) if num_domains > 1 else (False,))
        ]
    print_table(runs)
    sentence = conclusion(runs)
    print(sentence)
    picture = record.RESULTS / "more_data.png"
    if not is_quick:
        raw = [{"conclusion": sentence, "size": vars(size)}, *map(vars, runs)]
        print(record.write("more_data", figures(runs), raw))
    else:
        picture = Path(tempfile.gettempdir()) / "textmill-more-data-quick.png"
    draw(runs, picture)
    print(picture)


def cut(path: Path, to: Path, size: int) -> None:
    """About so many bytes of a corpus: the middles of documents at even distances."""
    with path.open("rb") as file, zstandard.ZstdDecompressor().stream_reader(file) as stream:
        documents = [json.loads(line) for line in io.BufferedReader(stream)]
    for document in documents:
        begin = max(0, len(document["text"]) - MOST_CHARACTERS) // 2
        document["text"] = document["text"][begin : begin + MOST_CHARACTERS]
    lines = [json.dumps(document).encode() + b"\n" for document in documents]
    share, owed = min(1.0, size / sum(map(len, lines))), 0.0
    with to.open("wb") as out:
        for line in lines:
            owed += len(line) * share
            if owed > 0:
                owed -= out.write(line)


def recipe_of(folder: Path, size: Size, output: Path, domains: Sequence[str], strategy: str) -> str:
    """The recipe of a run that trains on some domains alike and is evaluated on all."""
    names = (*DOMAINS, UNSEEN)
    sources = "".join(
        f'\n[sources.{name}]\nreader = "jsonl"\ndomain = "{name}"\nid = "id"\n'
        f'path = "{folder / name}.jsonl"\n'
        for name in names
    )
    return RECIPE.format(
        output=output,
        sources=sources,
        strategy=strategy,
        weights=", ".join(f"{name} = {1.0 if name in domains else 0.0}" for name in names),
        **vars(size),
    )


def trained(folder: Path, size: Size, num_domains: int, is_reweighted: bool) -> Run:
    """Train on the first domains; all runs read the shards that the first one wrote."""
    output = folder / f"{num_domains}-{is_reweighted}"
    shards = folder / "data"
    output.mkdir()
    if shards.exists():
        (output / "data").symlink_to(shards)
    strategy = "online" if is_reweighted else "fixed"
    text = recipe_of(folder, size, output, DOMAINS[:num_domains], strategy)
    recipe = output / "recipe-given.toml"
    recipe.write_text(text, encoding="utf-8")
    print(f"training on {', '.join(DOMAINS[:num_domains])}: {strategy}", flush=True)
    started = time.perf_counter()
    log = output / "log"
    with log.open("wb") as file:
        command = [sys.executable, "-m", "launch", "run", str(recipe)]
        done = subprocess.run(command, cwd=ROOT, stdout=file, stderr=file, check=False)
    if done.returncode:
        raise SystemExit(log.read_text(encoding="utf-8", errors="replace")[-4000:])
    if not shards.exists():
        (output / "data").rename(shards)
    seconds = round(time.perf_counter() - started, 1)
    return read(output, num_domains, is_reweighted, seconds)


def read(output: Path, num_domains: int, is_reweighted: bool, seconds: float) -> Run:
    """What a finished run says of itself."""
    lines = (output / "pretrain/metrics.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [row for row in map(json.loads, lines) if "loss/valid" in row]
    last = rows[-1]
    bits = {name: last[f"bits_per_byte_by_domain/{name}"] for name in (*DOMAINS, UNSEEN)}
    weights = [
        {"step": row["step"], **{name: row.get(f"mixture/{name}", 0.0) for name in DOMAINS}}
        for row in rows
        if any(tag.startswith("mixture/") for tag in row)
    ]
    return Run(num_domains, is_reweighted, seconds, bits, weights, rows)


def figures(runs: Sequence[Run]) -> dict[str, float]:
    found = {f"bits_per_byte_{run.name}": round(run.mean, 4) for run in runs}
    for run in runs:
        found[f"bits_per_byte_unseen_{run.name}"] = round(run.bits_per_byte[UNSEEN], 4)
    return found


def print_table(runs: Sequence[Run]) -> None:
    names = (*DOMAINS, UNSEEN)
    table = Table("trained on", *names, "mean of four", "s", title="masked bits per byte")
    for run in runs:
        seen = DOMAINS[: run.num_domains]
        cells = [f"{run.bits_per_byte[name]:.3f}{'' if name in seen else ' *'}" for name in names]
        table.add_row(run.label, *cells, f"{run.mean:.3f}", f"{run.seconds:.0f}")
    Console(width=110).print(table)
    print("* not trained on")


def conclusion(runs: Sequence[Run]) -> str:
    """What the numbers say, and no more."""
    by_name = {run.name: run for run in runs}
    one, four = by_name["1_domains"], by_name["4_domains"]
    online = by_name["4_domains_reweighted"]
    first = DOMAINS[0]
    told = [
        change("bits per byte over the four", one.mean, four.mean),
        change(
            f"those of {UNSEEN}, which no run trained on,",
            one.bits_per_byte[UNSEEN],
            four.bits_per_byte[UNSEEN],
        ),
        change(
            f"those of {first}, all that the first run saw,",
            one.bits_per_byte[first],
            four.bits_per_byte[first],
        ),
    ]
    unseen = change(UNSEEN, four.bits_per_byte[UNSEEN], online.bits_per_byte[UNSEEN])
    return (
        f"With the same token budget, training on four domains instead of one {'; it '.join(told)}."
        f" Re-weighting the four {change('their mean', four.mean, online.mean)} and {unseen}."
    )


def change(what: str, before: float, after: float) -> str:
    """A difference in words; one that is too small to mean anything is called that."""
    relative = after / before - 1
    numbers = f"({before:.3f} -> {after:.3f})"
    if abs(relative) < NOTHING:
        return f"does not change {what} by more than one seed can show {numbers}"
    verb = "lowers" if relative < 0 else "raises"
    return f"{verb} {what} by {abs(relative):.1%} {numbers}"


def draw(runs: Sequence[Run], path: Path) -> None:
    """Bits per byte of every domain by run, and the weights of the re-weighted run of four."""
    names = (*DOMAINS, UNSEEN)
    figure, (bars, lines) = plt.subplots(1, 2, figsize=(10, 3.6), width_ratios=(5, 3))
    width = 0.8 / len(runs)
    for place, run in enumerate(runs):
        at = [number + (place - (len(runs) - 1) / 2) * width for number in range(len(names))]
        bars.bar(at, [run.bits_per_byte[name] for name in names], width, label=run.label)
    bars.set_xticks(range(len(names)), [*DOMAINS, f"{UNSEEN}\n(never trained on)"])
    bars.set_ylabel("masked bits per byte, held out")
    bars.legend(fontsize=7, ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    weights: Sequence[Mapping[str, Any]] = next(
        run.weights for run in runs if run.num_domains == len(DOMAINS) and run.is_reweighted
    )
    for name in DOMAINS:
        lines.step([row["step"] for row in weights], [row[name] for row in weights], label=name,
                   where="post")  # fmt: skip
    largest = max(row[name] for row in weights for name in DOMAINS)
    lines.set(xlabel="step", ylabel="share of the samples", ylim=(0, 1.15 * largest))
    lines.legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(path, dpi=80)
    plt.close(figure)


if __name__ == "__main__":
    main()
