"""`python -m pretrain inspect-step RUN STEP [--rank R] [--json]`: the texts a step was trained on.

RUN is the output folder of a recipe. What its `pretrain` folder keeps is enough: recipe.toml, the
ledger (which data the step took, by how many ranks) and, if weights change while training, their
history in a checkpoint. Samples come from the code that trains, and their hashes are compared with
the ledger's: what is shown is what was trained on, or nothing is shown.

In the text a target is marked by how the model saw it:

    {moss}         as [MASK]
    {moss>fern}    as another token
    {moss=}        as it is

Nothing is written and no model is built.
"""

import json
import sys
from argparse import ArgumentParser, Namespace
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from transformers import AutoConfig

from data_prep.commands.inspect import EDGE, printable
from data_prep.shards import Corpus, TokenizerFacts
from data_prep.tokenizer import load_json
from pretrain import ledger, phases
from pretrain.batches import MixtureBatches, of_phase
from pretrain.budget import Budget, budget_of
from pretrain.config import Model, Recipe
from pretrain.masker import Masker
from pretrain.model import build
from pretrain.model.objective import IGNORED
from pretrain.run import online_mixing
from runtime import provenance, recipe, retention, seals, stages
from runtime.errors import DataError
from runtime.tracking import json_number

Ids = NDArray[np.int64]
NUMBERS = ("loss", "gradient_norm", "learning_rate")  # of the ledger


@dataclass(frozen=True)
class Segment:
    """One document's part of a sample."""

    document: str  # xxh3_64 of "source/id", in hexadecimal, as in the shards
    num_tokens: int
    text: str  # with its targets marked


@dataclass(frozen=True)
class Sample:
    """A sample of the step."""

    source: str
    sample: int  # within the source
    epoch: int  # how often the source had been used up before
    rank: int | None  # that trained on it; None: the step is not in the ledger
    num_targets: int
    segments: list[Segment]


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("run", type=Path, help="output folder of a recipe")
    parser.add_argument("step", type=int, help="from 1, as in metrics.jsonl and on TensorBoard")
    parser.add_argument("--rank", type=int, help="only what this rank trained on")
    parser.add_argument("--json", action="store_true", help="one JSON object for machines")


def inspect(found: Namespace) -> None:
    """Print the samples of a step. Raises DataError if it cannot be told what they were."""
    folder = stages.folder(found.run, "pretrain")
    if not (folder / "recipe.toml").is_file():
        raise DataError(f"{folder} holds no recipe.toml; give the `output` of a pretrained recipe")
    if found.step < 1:
        raise DataError(f"steps count from 1; given {found.step}")
    done = ledger.of_step(folder, found.step)
    if found.rank is not None and found.rank not in done:
        ranks = ", ".join(map(str, done)) or "no rank"
        raise DataError(f"step {found.step} is in the ledger of {ranks}, not of {found.rank}")
    batches = batches_of(found.run, folder, found.step)
    data_step = done[0]["data_step"] if done else found.step - 1
    verify(batches, data_step, done, found.step)
    samples = [
        sample
        for sample in samples_of(batches, data_step, len(done))
        if found.rank is None or sample.rank == found.rank
    ]
    facts = {"step": found.step, "data_step": data_step, "is_verified": bool(done)}
    if done:
        record = done[0]
        facts |= {"refused": record.get("refused")}
        facts |= {name: json_number(float.fromhex(record[name])) for name in NUMBERS}
    if found.json:
        print(json.dumps({**facts, "samples": [asdict(sample) for sample in samples]}))
    else:
        show(facts, samples)


def batches_of(run: Path, folder: Path, step: int) -> MixtureBatches:
    """The batches of the run, as seen by the only rank of one."""
    checked = recipe.load(folder / "recipe.toml", (), Recipe)
    table, train = checked.model, checked.train
    if table is None or train is None:
        raise DataError(f"{folder / 'recipe.toml'} trains no model")
    corpus = Corpus(stages.folder(run, "data_prep"))
    budget = budget_of(train, corpus.sequence_length)
    mixing = online_mixing(checked, corpus, budget)
    if mixing is not None:
        mixing.restore(state_at(folder, step)[mixing.name])
    corpora = phases.opened(corpus, budget.lengths, folder)
    shares = phases.shares(train.phases, checked.mixture, budget, corpora)
    data = [
        of_phase(number, found, part, checked.seed, None if number else mixing)
        for number, (found, part) in enumerate(zip(corpora, shares, strict=True))
    ]
    first_position = build.first_position(config_of(table, corpus, budget))
    masker = Masker(corpus, checked.objective, checked.seed, first_position)
    return MixtureBatches(masker, data, budget, rank=0, world_size=1)


def config_of(table: Model, corpus: Corpus, budget: Budget) -> Any:
    """The transformers configuration of the model that was trained."""
    if table.checkpoint is not None:
        try:
            return AutoConfig.from_pretrained(table.checkpoint)
        except (OSError, ValueError) as error:
            raise DataError(
                f"model.checkpoint {table.checkpoint!r}, which the run continued, cannot be read: "
                f"{str(error).splitlines()[0]}; put it back, or run this where it can be reached"
            ) from None
    return build.shape(table, corpus.tokenizer, budget.longest)


def state_at(folder: Path, step: int) -> dict[str, Any]:
    """What the hooks had decided by a step: from the first checkpoint after it, or the newest."""
    checkpoints = folder / "checkpoints"
    present = retention.steps(checkpoints)
    if not present:
        raise DataError(f"{checkpoints} has no checkpoint, which keeps the weights of the mixture")
    chosen = next((number for number in present if number >= step), present[-1])
    manifest = retention.path_of(checkpoints, chosen) / seals.MANIFEST
    return dict(provenance.read_json(manifest)["position"]["state"])


def verify(
    batches: MixtureBatches, data_step: int, done: dict[int, dict[str, Any]], step: int
) -> None:
    """Raise DataError unless the inputs have the hashes that the ranks wrote down."""
    if not done:
        return
    ours = Counter(ledger.digest(it.inputs) for it in batches.micro_batches(data_step))
    theirs = Counter(name for record in done.values() for name in record["micro_batches"])
    if ours != theirs:
        missing = sum((theirs - ours).values())
        raise DataError(
            f"{missing} of {sum(theirs.values())} micro batches that were trained on at step {step}"
            " are not those that recipe.toml and the shards give now: the recipe was changed after "
            "the step (see the checkpoint's `drift`), or the shards were built anew"
        )


def samples_of(batches: MixtureBatches, data_step: int, world_size: int) -> Iterator[Sample]:
    """The samples of a step in the order of the mixture."""
    found = batches.samples(data_step)
    inputs = batches.masker.micro_batch(found.rows, found.keys, found.progress).inputs
    stored = found.rows.tokens.astype(np.int64)
    seen = inputs["input_ids"].numpy().reshape(stored.shape)
    is_target = np.zeros(stored.shape, bool)
    is_target.flat[inputs["positions"].numpy()[inputs["targets"].numpy() != IGNORED]] = True
    marker = Marker(batches.masker.corpus.tokenizer)
    micro_size = batches.budget.micro_size_of(found.phase)
    sources, ends = list(found.corpus.sources), np.cumsum(found.rows.counts)
    for row in range(len(stored)):
        segments, begin = [], 0
        for number in range(ends[row] - found.rows.counts[row], ends[row]):
            part = slice(begin, begin + int(found.rows.lengths[number]))
            text = marker.text(stored[row, part], seen[row, part], is_target[row, part])
            document = f"{int(found.rows.documents[number]):016x}"
            segments.append(Segment(document, part.stop - part.start, text))
            begin = part.stop
        yield Sample(
            sources[found.order.source[row]],
            int(found.order.sample[row]),
            int(found.order.epoch[row]),
            row // micro_size % world_size if world_size else None,
            int(is_target[row].sum()),
            segments,
        )


class Marker:
    """Writes segments as text with their targets marked."""

    def __init__(self, facts: TokenizerFacts) -> None:
        self.facts = facts
        self.tokenizer = load_json(facts.folder / "tokenizer.json")

    def text(self, stored: Ids, seen: Ids, is_target: NDArray[np.bool_]) -> str:
        """A segment without its separators."""
        edges = (self.facts.cls_id, self.facts.sep_id)
        first, end = int(stored[0] in edges), len(stored) - int(stored[-1] in edges)
        kinds = [
            (bool(is_target[i]), i if is_target[i] else -1, i) for i in range(first, end)
        ]  # every target by itself, what lies between two of them together
        parts = []
        for (is_marked, _), group in groupby(kinds, key=lambda kind: kind[:2]):
            places = [place for _, _, place in group]
            text = self.spelled(stored[first : places[0]], stored[places])
            parts.append(
                self.marked(text, stored[places[0]], seen[places[0]]) if is_marked else text
            )
        return "".join(parts).strip()

    def marked(self, text: str, stored: int, seen: int) -> str:
        """A target, with white space before it left outside of the mark."""
        bare = text.lstrip()
        if seen == self.facts.mask_id:
            shown = bare
        elif seen == stored:
            shown = f"{bare}="
        else:
            shown = f"{bare}>{self.spelled(np.array([], np.int64), np.array([seen])).strip()}"
        return f"{text[: len(text) - len(bare)]}{{{shown}}}"

    def spelled(self, before: Ids, ids: Ids) -> str:
        """What ids add to a text that ends with the token before them: the white space between
        words is written by decoders, between tokens."""
        context = [int(id) for id in before[-1:]]
        whole = self.decoded(context + [int(id) for id in ids])
        return whole[len(self.decoded(context)) :]

    def decoded(self, ids: list[int]) -> str:
        return str(self.tokenizer.decode(ids, skip_special_tokens=False))


def show(facts: dict[str, Any], samples: list[Sample]) -> None:
    """Print for people."""
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")  # a terminal may know few characters
    console = Console(highlight=False, soft_wrap=True, markup=False)
    if facts["is_verified"]:
        told = ", ".join(f"{n.replace('_', ' ')} {float(facts[n]):.5g}" for n in NUMBERS)
        applied = f"not applied ({facts['refused']})" if facts["refused"] else "applied"
        console.print(f"step {facts['step']} (data step {facts['data_step']}): {told}, {applied}")
        console.print("its samples have the hashes of the ledger; targets: {as [MASK]} {as>another}"
                      " {as it is=}")  # fmt: skip
    else:
        console.print(f"step {facts['step']} is not in the ledger: what it would train on")
    for sample in samples:
        rank = "" if sample.rank is None else f"  rank {sample.rank}"
        console.print(
            f"\n{sample.source} sample {sample.sample}  epoch {sample.epoch}{rank}  "
            f"{sample.num_targets} targets",
            style="bold",
        )
        for number, segment in enumerate(sample.segments, start=1):
            edge = f"-- segment {number}/{len(sample.segments)}  {segment.num_tokens} tokens"
            console.print(f"{edge}  document {segment.document}", style=EDGE)
            console.print(printable(segment.text, "\n\t"))
