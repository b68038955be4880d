"""The order in which samples of several sources are seen: a pure function of the sample's number.

`sample_order` says for any range of global sample numbers which sample of which source stands
there, in which epoch of that source, without state and without building an index:

1. Which source, and its how many-th draw: a period that repeats; see `data_prep/schedule.py`.
2. Which sample. The i-th draw from a source of n samples is number i mod n of epoch i // n, put
   through a permutation of n keyed by (seed, source, epoch), which goes forward on disk; see
   `data_prep/permutation.py`.

Every sample of a source is seen exactly once an epoch, also where weights change while training:
`piecewise_order` follows the history of such a run. Any rank computes its own part.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, Self

import numpy as np
import xxhash
from numpy.typing import NDArray
from pydantic import Field, model_validator

from data_prep.history import History
from data_prep.permutation import mix, shuffled
from data_prep.schedule import schedule
from data_prep.shards import Corpus
from runtime.config import PositiveFloat, Share
from runtime.errors import DataError, RecipeError
from runtime.recipe import RecipeTable

Int64 = NDArray[np.int64]
UInt64 = NDArray[np.uint64]


class Online(RecipeTable):
    """How weights follow what each domain still learns: ADO (Jiang et al. 2024, arXiv 2410.11820);
    the defaults are the paper's, but for the first two, which suit shorter runs."""

    warmup_share: Share = 0.1  # of the run, in which evaluations are not used: no power law yet
    min_evaluations: Annotated[int, Field(ge=3)] = 4  # after that, before weights change
    credit_power: Share = 0.5  # s: how much a domain's own share counts in what it brought
    credit_rate: Share = 0.1  # gamma 1: how fast the share that is credited follows, a step
    preference_share: Share = 0.1  # gamma 2: of the newest preference; the rest is the average
    min_share: Annotated[float, Field(gt=0.0, lt=0.5)] = 0.01  # of a domain in every preference

    def num_changes(self, total_steps: int, evaluate_every_steps: int) -> int:
        """How often the weights of a run of so many equal steps change."""
        steps = range(evaluate_every_steps, total_steps, evaluate_every_steps)
        used = [step for step in steps if step >= self.warmup_share * total_steps]
        return max(0, len(used) - self.min_evaluations + 1)


class Mixture(RecipeTable):
    """What share of the training tokens each source gets."""

    # By size of source; as given; by a power of size; changed at every evaluation while training.
    strategy: Literal["proportional", "fixed", "temperature", "online"] = "proportional"
    # fixed: one a source, any scale; 0: only evaluated. online: what to begin with.
    weights: dict[str, Annotated[float, Field(ge=0.0)]] = Field(default={})
    # Weight = size^this; None: 0.7, or 1 if online.
    temperature: float | None = Field(default=None, gt=0.0, le=1.0)
    # How often a source may be seen at most; then the others share what it had, in proportion.
    max_epochs: dict[str, PositiveFloat] = Field(default={})
    online: Online = Online()  # online: how the weights change

    @model_validator(mode="after")
    def weights_fit_strategy(self) -> Self:
        is_online = self.strategy == "online"
        if not is_online and (self.strategy == "fixed") != bool(self.weights):
            raise ValueError(
                '`weights` and strategy = "fixed" (or "online") go together '
                f"(given: strategy {self.strategy!r}, weights {self.weights})"
            )
        if self.weights and not any(self.weights.values()):
            raise ValueError("`weights` are all 0: at least one source must be trained on")
        has_temperature = self.temperature is not None
        if has_temperature and (not (is_online or self.strategy == "temperature") or self.weights):
            raise ValueError(
                '`temperature` needs strategy = "temperature", or "online" without `weights` '
                f"(given: {self.strategy!r})"
            )
        if self.online != Online() and not is_online:
            raise ValueError(f'`online` needs strategy = "online" (given: {self.strategy!r})')
        return self

    @property
    def power(self) -> float:
        """The power of a source's size that is its weight, where none is given."""
        if self.temperature is not None:
            return self.temperature
        return 0.7 if self.strategy == "temperature" else 1.0


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
    if mixture.weights:
        missing = sorted(set(num_tokens) - set(mixture.weights))
        unknown = sorted(set(mixture.weights) - set(num_tokens))
        if missing or unknown:
            raise RecipeError(
                f"mixture.weights must name every source once; missing: {missing or 'none'}, "
                f"unknown: {unknown or 'none'}"
            )
        raw = {name: float(mixture.weights[name]) for name in num_tokens}
    else:
        raw = {n: float(size) ** mixture.power if size else 0.0 for n, size in num_tokens.items()}
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
    """Weights and limits of the sources of a corpus, in their order; to begin with, if `online`."""
    splits = {name: facts.splits["train"] for name, facts in corpus.sources.items()}
    weights = source_weights(mixture, {name: it["num_tokens"] for name, it in splits.items()})
    limits = source_limits(mixture, {name: it["num_samples"] for name, it in splits.items()})
    if mixture.strategy == "online":
        watched_domains(mixture.online, weights, corpus)
    return Shares(tuple(weights.values()), tuple(limits.values()))


def watched_domains(
    online: Online, weights: Mapping[str, float], corpus: Corpus
) -> dict[str, list[int]]:
    """The numbers of the weighted sources of each domain that validation measures.

    Raises RecipeError if that leaves nothing to choose between.
    """
    domains: dict[str, list[int]] = {}
    measured = set()
    for number, (name, facts) in enumerate(corpus.sources.items()):
        if weights[name] > 0:
            domains.setdefault(facts.domain, []).append(number)
        if facts.splits["valid"]["num_samples"]:
            measured.add(facts.domain)
    found = {domain: numbers for domain, numbers in domains.items() if domain in measured}
    if len(found) < 2:
        raise RecipeError(
            'mixture.strategy = "online" needs two domains with text for training and for '
            f"validation; there is {', '.join(found) or 'none'}: name the `domain` of each source, "
            "raise packing.valid_share, or choose another strategy"
        )
    if online.min_share * len(found) >= 1:
        raise RecipeError(
            f"mixture.online.min_share ({online.min_share}) x {len(found)} domains must be below "
            f"1; at most {0.9 / len(found):.2g} is of use"
        )
    return found


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
    history = History.begin(tuple(weights), tuple(limits) or (None,) * len(counts))
    return piecewise_order(counts, history, seed, start, count)


def piecewise_order(
    counts: Sequence[int], history: History, seed: int, start: int, count: int
) -> Order:
    """The same for a mixture whose weights changed: see `data_prep.history.History`.

    The cost depends on `count` and on the logarithm of the number of changes.
    """
    if history.total is not None and start + count > history.total:
        raise DataError(
            f"sample {start + count - 1:,} is past the end of the mixture: with mixture.max_epochs "
            f"it has {history.total:,} samples; raise max_epochs or train on fewer tokens"
        )
    source, draw = history.draws(start, count)
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
