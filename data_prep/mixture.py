"""The order in which samples of several sources are seen: a pure function of the sample's number.

`sample_order` says for any range of global sample numbers which sample of which source stands
there, in which epoch of that source, without state and without building an index:

1. Which source, and its how many-th draw: a period that repeats; see `data_prep/schedule.py`.
2. Which sample. The i-th draw from a source of n samples is number i mod n of epoch i // n, put
   through a permutation of n keyed by (seed, source, epoch), which goes forward on disk; see
   `data_prep/permutation.py`.

Every sample of a source is seen exactly once an epoch. Any rank computes its own part.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Self

import numpy as np
import xxhash
from numpy.typing import NDArray
from pydantic import Field, model_validator

from data_prep.permutation import mix, shuffled
from data_prep.schedule import schedule
from data_prep.shards import Corpus
from runtime.config import PositiveFloat
from runtime.errors import DataError, RecipeError
from runtime.recipe import RecipeTable

Int64 = NDArray[np.int64]
UInt64 = NDArray[np.uint64]


class Mixture(RecipeTable):
    """What share of the training tokens each source gets."""

    strategy: Literal["proportional", "fixed", "temperature"] = "proportional"  # by size of source
    weights: dict[str, PositiveFloat] = Field(default={})  # fixed: one a source, any scale
    temperature: float = Field(default=0.7, gt=0.0, le=1.0)  # temperature: weight = size^this
    # How often a source may be seen at most; then the others share what it had, in proportion.
    max_epochs: dict[str, PositiveFloat] = Field(default={})

    @model_validator(mode="after")
    def weights_fit_strategy(self) -> Self:
        if (self.strategy == "fixed") != bool(self.weights):
            raise ValueError(
                '`weights` and strategy = "fixed" go together '
                f"(given: strategy {self.strategy!r}, weights {self.weights})"
            )
        if "temperature" in self.model_fields_set and self.strategy != "temperature":
            raise ValueError(
                f'`temperature` needs strategy = "temperature" (given: {self.strategy!r})'
            )
        return self


@dataclass(frozen=True)
class Order:
    """Where the samples with consecutive global numbers come from."""

    source: NDArray[np.int16]  # (count,) number of the source
    sample: Int64  # (count,) sample within the source
    epoch: Int64  # (count,) how often the source was used up before


@dataclass(frozen=True)
class Shares:
    """What share of the samples each source gives, and how many at most."""

    weights: tuple[float, ...]
    limits: tuple[int | None, ...]  # None: any number

    @property
    def total(self) -> int | None:
        """How many samples there are until every source has reached its limit; None: no end."""
        return schedule(self.weights, self.limits).total


def source_weights(mixture: Mixture, num_tokens: Mapping[str, int]) -> dict[str, float]:
    """The weight of each source, summing to 1. `num_tokens` are those it has for training.

    Raises RecipeError for a source without a weight, DataError for a weighted source without text.
    """
    if mixture.strategy == "fixed":
        missing = sorted(set(num_tokens) - set(mixture.weights))
        unknown = sorted(set(mixture.weights) - set(num_tokens))
        if missing or unknown:
            raise RecipeError(
                f"mixture.weights must name every source once; missing: {missing or 'none'}, "
                f"unknown: {unknown or 'none'}"
            )
        raw = {name: float(mixture.weights[name]) for name in num_tokens}
    else:
        power = mixture.temperature if mixture.strategy == "temperature" else 1.0
        raw = {name: float(size) ** power if size else 0.0 for name, size in num_tokens.items()}
    empty = [name for name, weight in raw.items() if weight and not num_tokens[name]]
    if empty:
        raise DataError(
            f"sources {', '.join(empty)} have a weight but no training samples; "
            "remove them from mixture.weights and [sources], or check their manifest counts"
        )
    total = sum(raw.values())
    if not total:
        raise DataError("no source has a training sample; see the counts in data/manifest.json")
    return {name: weight / total for name, weight in raw.items()}


def shares_of(mixture: Mixture, corpus: Corpus) -> Shares:
    """Weights and limits of the sources of a corpus, in their order."""
    splits = {name: facts.splits["train"] for name, facts in corpus.sources.items()}
    weights = source_weights(mixture, {name: it["num_tokens"] for name, it in splits.items()})
    limits = source_limits(mixture, {name: it["num_samples"] for name, it in splits.items()})
    return Shares(tuple(weights.values()), tuple(limits.values()))


def source_limits(mixture: Mixture, num_samples: Mapping[str, int]) -> dict[str, int | None]:
    """How many samples may be drawn from each source: None is any number.

    Raises RecipeError for a limit on a source that does not exist.
    """
    unknown = sorted(set(mixture.max_epochs) - set(num_samples))
    if unknown:
        raise RecipeError(
            f"mixture.max_epochs names {', '.join(unknown)}; the sources are: "
            + ", ".join(num_samples)
        )
    return {
        name: max(1, math.floor(mixture.max_epochs[name] * size))
        if name in mixture.max_epochs
        else None
        for name, size in num_samples.items()
    }


def sample_order(
    counts: Sequence[int],
    weights: Sequence[float],
    seed: int,
    start: int,
    count: int,
    limits: Sequence[int | None] = (),
) -> Order:
    """Sources, samples and epochs of the global sample numbers `start` to `start + count`.

    `counts` are the samples of each source, `weights` their shares (any scale; 0 leaves one out),
    `limits` how many may be drawn from each. The cost depends on `count` alone. Raises DataError
    past the end of a mixture whose sources all have a limit.
    """
    if len(counts) != len(weights) or not any(weight > 0 for weight in weights):
        raise ValueError(f"{len(counts)} counts and weights {list(weights)} do not fit")
    for number, (num_samples, weight) in enumerate(zip(counts, weights, strict=True)):
        if weight < 0 or (weight > 0 and num_samples < 1):
            raise ValueError(f"source {number} has weight {weight} and {num_samples} samples")
    plan = schedule(tuple(weights), tuple(limits) or (None,) * len(counts))
    if plan.total is not None and start + count > plan.total:
        raise DataError(
            f"sample {start + count - 1:,} is past the end of the mixture: with mixture.max_epochs "
            f"it has {plan.total:,} samples; raise max_epochs or train on fewer tokens"
        )
    source, draw = plan.draws(start, count)
    epoch, sample = np.divmod(draw, np.maximum(1, np.asarray(counts, np.int64))[source])
    for number, num_samples in enumerate(counts):
        mine = np.flatnonzero(source == number)
        if len(mine):
            keys = epoch_keys(seed, number, epoch[mine])
            sample[mine] = shuffled(sample[mine], num_samples, keys)
    return Order(source, sample, epoch)


def epoch_keys(seed: int, source: int, epoch: Int64) -> UInt64:
    """One key for each draw, from seed, source and epoch."""
    start = xxhash.xxh3_64_intdigest(f"textmill order {seed} {source}".encode())
    return mix(epoch.astype(np.uint64) + np.uint64(start))
