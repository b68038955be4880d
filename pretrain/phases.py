"""What every phase of a run draws from: its shards and the shares of its sources.

A phase whose samples have another length than the shards of the corpus reads shards of its own in
the folder of the run, `shards-<length>/`: the same documents packed anew. Rank 0 makes them before
training; they are there whole or not at all, and a run that goes on uses them again.

A phase with weights draws from the sources it names, any other phase as [mixture] says. How often a
source may be seen, mixture.max_epochs, holds for the whole run: what one phase has drawn of it is
gone for the next.

Imports no torch, so that a plan can check phases.
"""

import difflib
import logging
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
import xxhash

from data_prep import repack
from data_prep.mixture import Mixture, Shares, shares_of, source_limits, source_weights
from data_prep.schedule import Schedule, period, schedule
from data_prep.shards import Corpus
from pretrain.budget import Budget, exactly
from pretrain.config import Phase
from runtime.errors import DataError, RecipeError

log = logging.getLogger("textmill")


def folder_of(run: Path, length: int) -> Path:
    """Where the shards of another length stand in the folder of a run."""
    return run / f"shards-{length}"


def prepare(corpus: Corpus, budget: Budget, run: Path, workers: int) -> None:
    """Pack the shards of every other length that a phase needs; one process calls it.

    Raises DataError if the shards of the corpus are damaged, or if the folder holds shards of
    another corpus.
    """
    for length in sorted(set(budget.lengths) - {corpus.sequence_length}):
        output = folder_of(run, length)
        if not output.exists():
            log.info("packing samples of %d tokens for a later phase into %s", length, output)
        table = repack.packing_of(corpus.folder).model_copy(update={"sequence_length": length})
        repack.repack(corpus.folder, output, table, workers)


def opened(corpus: Corpus, lengths: Sequence[int], run: Path) -> list[Corpus]:
    """The corpora of phases whose samples have these lengths, after `prepare`. Raises DataError if
    one is damaged or was made from another corpus."""
    corpora = {corpus.sequence_length: corpus}
    for length in lengths:
        if length not in corpora:
            found = Corpus(folder_of(run, length))
            if found.manifest.get("repacked_from") != corpus.fingerprint:
                raise DataError(
                    f"{found.folder} was packed from another corpus than {corpus.folder}; "
                    "remove it and run the same command again"
                )
            corpora[length] = found
    return [corpora[length] for length in lengths]


def check_known(
    phases: Sequence[Phase], mixture: Mixture, budget: Budget, corpus: Corpus, run: Path
) -> None:
    """Raise RecipeError for what is known to be wrong before training starts: all of it, but for
    the counts of phases whose shards have yet to be made. Those are checked when they are."""
    check_names(phases, list(corpus.sources))
    made = [
        length == corpus.sequence_length or folder_of(run, length).is_dir()
        for length in budget.lengths
    ]
    first_missing = [*made, False].index(False)
    known = opened(corpus, budget.lengths[:first_missing], run)
    if known:
        shares(phases, mixture, budget, known)


def shares(
    phases: Sequence[Phase], mixture: Mixture, budget: Budget, corpora: Sequence[Corpus]
) -> list[Shares]:
    """The shares of the sources in every phase. `phases` may be empty: one, as [mixture] says.

    Raises RecipeError if a phase names an unknown source, or needs more samples than its sources
    have left.
    """
    check_names(phases, list(corpora[0].sources))
    result: list[Shares] = []
    used: dict[str, Fraction] = {}  # epochs of each source
    for number, corpus in enumerate(corpora):
        weights = phases[number].weights if phases else {}
        found = weighted(weights, mixture, corpus) if weights else shares_of(mixture, corpus)
        counts = num_samples(corpus)
        if number:
            found = Shares(found.weights, left(mixture, counts, used))
        check(budget, number, found, counts)
        result.append(found)
        drawn = draws(schedule(found.weights, found.limits), budget.num_samples(number))
        for (name, size), amount in zip(counts.items(), drawn, strict=True):
            used[name] = used.get(name, Fraction(0)) + Fraction(amount, max(1, size))
    return result


def check_names(phases: Sequence[Phase], sources: Sequence[str]) -> None:
    """Raise RecipeError for weights of a source that does not exist."""
    for number, phase in enumerate(phases):
        for name in phase.weights:
            if name not in sources:
                close = difflib.get_close_matches(name, sources, n=1)
                hint = (
                    f"did you mean `{close[0]}`?"
                    if close
                    else f"the sources are: {', '.join(sources)}"
                )
                raise RecipeError(
                    f"train.phases.{number}.weights names `{name}`, which is not a source; {hint}"
                )


def weighted(weights: dict[str, float], mixture: Mixture, corpus: Corpus) -> Shares:
    """Shares of the sources that a phase names; the others give nothing."""
    tokens = {name: corpus.sources[name].splits["train"]["num_tokens"] for name in weights}
    named = source_weights(Mixture(strategy="fixed", weights=weights), tokens)
    limits = source_limits(mixture, num_samples(corpus))
    return Shares(tuple(named.get(name, 0.0) for name in corpus.sources), tuple(limits.values()))


def num_samples(corpus: Corpus) -> dict[str, int]:
    """Samples for training of every source."""
    return {name: it.splits["train"]["num_samples"] for name, it in corpus.sources.items()}


def left(
    mixture: Mixture, counts: dict[str, int], used: dict[str, Fraction]
) -> tuple[int | None, ...]:
    """How many samples of each source are left of its epochs; None: any number."""
    return tuple(
        max(0, int((exactly(mixture.max_epochs[name]) - used[name]) * size))
        if name in mixture.max_epochs
        else None
        for name, size in counts.items()
    )


def draws(plan: Schedule, count: int) -> list[int]:
    """How many of the first `count` samples of a mixture come from each source."""
    part = [part for part in plan.phases if part.start < count][-1]
    repeats, rest = divmod(count - part.start, part.period)
    of_place, _ = period(part.draws)
    more = np.bincount(of_place[:rest], minlength=len(part.draws)).tolist()
    return [
        before + repeats * each + extra
        for before, each, extra in zip(part.before, part.draws, more, strict=True)
    ]


def check(budget: Budget, number: int, found: Shares, counts: dict[str, int]) -> None:
    """Raise RecipeError if a phase has too few samples for a step, or for all its steps.

    A source may be smaller than its part of a batch: it then comes more than once in it, masked
    anew each time. All sources of a phase together may not.
    """
    phase = f" of phase {number}" if len(budget.lengths) > 1 else ""
    needed, total = budget.num_samples(number), found.total
    if total is not None and needed > total:
        first, fit = budget.first_step(number), budget.steps_with(number, total)
        raise RecipeError(
            f"train.total_tokens needs {needed:,} samples ({budget.end_step(number) - first:,} "
            f"steps{phase}), but with mixture.max_epochs the sources give {total:,}; raise "
            f"max_epochs, or lower total_tokens: to at most {fit:,} steps"
        )
    different = {
        name: size if limit is None else min(size, limit)
        for (name, size), weight, limit in zip(
            counts.items(), found.weights, found.limits, strict=True
        )
        if weight
    }
    batch, available = budget.largest_batch(number), sum(different.values())
    if batch > available:
        most = available * budget.lengths[number] // budget.sequence_length
        raise RecipeError(
            f"a step{phase} takes {batch:,} samples, but for training there are {available:,} "
            f"({', '.join(f'{name} {size:,}' for name, size in different.items())}): lower "
            f"train.global_batch_size to at most {most:,}, or prepare more text"
        )


def seed_of(seed: int, number: int) -> int:
    """The seed of a phase's order and masks: the recipe's for the first, others for the rest, so
    that a sample seen again comes at another place with other masks."""
    return (
        seed
        if number == 0
        else xxhash.xxh3_64_intdigest(f"textmill phase {seed} {number}".encode())
    )
