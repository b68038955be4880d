"""Weights that follow what each domain still learns, changed at every evaluation.

The method is Adaptive Data Optimization (ADO): Jiang, Zhou, Feng, Malladi and Kolter 2024,
"Adaptive Data Optimization: Dynamic Sample Selection with Scaling Laws", arXiv 2410.11820. It needs
no reference model and no gradients, only the loss of every domain:

1. Law. The losses of a domain so far are fitted by epsilon + beta n^-alpha, where n counts the
   tokens of all domains.
2. Learning speed: alpha (L(n) - epsilon), the fall of that law per e-fold of tokens.
3. Preference: rho = mu x h^s x speed, made to sum to 1, no domain below `min_share`. mu is the
   share to begin with, h the share the domain had lately, a moving average by gamma 1 a step: what
   a domain gained is credited to its own text the more of it there was.
4. Shares: gamma 2 x rho + (1 - gamma 2) x the mean of the preferences of all steps so far, in which
   mu stands for those before the first preference.

What differs from the paper: the losses are those of validation, masked the same way each time, not
smoothed ones of training; shares change at evaluations, not at every step, so that the two averages
over steps are taken in closed form; each law is fitted for every alpha of a grid by iteratively
re-weighted least squares, not by L-BFGS from a grid, with the same objective and the same bounds of
alpha; epsilon may be anything from 0, not only above e^0.5, below which masked losses do fall.

A domain's sources share its weight in the proportion they began with. A domain that validation does
not measure keeps its weight.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_prep.history import History
from data_prep.mixture import Mixture, Online, Order, piecewise_order, shares_of, watched_domains
from data_prep.shards import Corpus
from pretrain.hooks import Done
from runtime import processes

Floats = tuple[float, ...]  # one a domain
Float64 = NDArray[np.float64]

ALPHAS = np.arange(1, 17)[:, None] / 20  # 0.05 to 0.8
HUBER_DELTA = 1e-3  # of log residuals: in effect their absolute values
ROUNDS = 30  # of re-weighting


@dataclass(frozen=True)
class Law:
    """A power law of the loss against tokens, in units of the tokens so far."""

    epsilon: float
    beta: float
    alpha: float

    @property
    def speed(self) -> float:
        """Fall of the loss per e-fold of tokens, now."""
        return self.alpha * self.beta


def fit(tokens: Sequence[float], losses: Sequence[float]) -> Law:
    """The law nearest to losses, all above 0, at growing numbers of tokens."""
    powers = (np.array(tokens) / tokens[-1]) ** -ALPHAS  # (alphas, evaluations)
    loss = np.array(losses)
    weights = np.ones_like(powers)
    for _ in range(ROUNDS):
        epsilon, beta = least_squares(powers, loss, weights / loss**2)
        residual = np.abs(np.log(epsilon + beta * powers) - np.log(loss))
        weights = 1 / np.maximum(residual, HUBER_DELTA)
    quadratic = residual**2 / 2
    linear = HUBER_DELTA * (residual - HUBER_DELTA / 2)
    objective = np.where(residual < HUBER_DELTA, quadratic, linear).sum(axis=1)
    best = int(np.argmin(objective))
    return Law(float(epsilon[best, 0]), float(beta[best, 0]), float(ALPHAS[best, 0]))


def least_squares(x: Float64, y: Float64, weights: Float64) -> tuple[Float64, Float64]:
    """For each row of x: the a, b >= 0 of the line a + b x nearest to y, each (rows, 1)."""
    total = weights.sum(axis=1, keepdims=True)
    mean_x = (weights * x).sum(axis=1, keepdims=True) / total
    mean_y = (weights * y).sum(axis=1, keepdims=True) / total
    spread = (weights * (x - mean_x) ** 2).sum(axis=1, keepdims=True)
    slope = (weights * (x - mean_x) * (y - mean_y)).sum(axis=1, keepdims=True) / spread
    through_0 = (weights * x * y).sum(axis=1, keepdims=True) / (weights * x**2).sum(
        axis=1, keepdims=True
    )
    slope = np.maximum(slope, 0.0)
    start = mean_y - slope * mean_x
    return np.maximum(start, 0.0), np.where(start < 0, through_0, slope)


@dataclass(frozen=True)
class Learning:
    """What is known of the domains, and the shares that follow from it since `step`."""

    step: int
    shares: Floats
    preference: Floats
    credit: Floats  # h at `step`
    average: Floats  # of the preferences of all steps up to `step`
    losses: tuple[tuple[int, Floats], ...] = ()  # tokens seen, loss of each domain

    def measured(self, tokens: int, losses: Floats) -> "Learning":
        """The same, knowing one more evaluation."""
        return replace(self, losses=(*self.losses, (tokens, losses)))

    def speeds(self) -> Floats:
        """Learning speed of each domain, now."""
        tokens = [seen for seen, _ in self.losses]
        columns = zip(*(losses for _, losses in self.losses), strict=True)
        return tuple(fit(tokens, column).speed for column in columns)

    def changed(self, table: Online, prior: Floats, speeds: Floats, step: int) -> "Learning":
        """The shares that follow from learning speeds after a step."""
        passed = step - self.step
        kept = (1 - table.credit_rate) ** passed
        credit = blend(kept, self.credit, self.shares)
        average = blend(self.step / step, self.average, self.preference)
        preference = preferred(table, prior, credit, speeds)
        shares = blend(table.preference_share, preference, average)
        return Learning(step, shares, preference, credit, average, self.losses)


def blend(share: float, one: Floats, other: Floats) -> Floats:
    return tuple(share * a + (1 - share) * b for a, b in zip(one, other, strict=True))


def preferred(table: Online, prior: Floats, credit: Floats, speeds: Floats) -> Floats:
    """rho: the share of each domain by what it would bring now, none below `min_share`."""
    raw = [
        mu * had**table.credit_power * speed
        for mu, had, speed in zip(prior, credit, speeds, strict=True)
    ]
    if not sum(raw):  # nobody learns any more
        raw = list(prior)
    return floored([each / sum(raw) for each in raw], table.min_share)


def floored(shares: list[float], least: float) -> Floats:
    """Shares raised to a least one at the expense of the others, in proportion."""
    low = {i for i, share in enumerate(shares) if share < least}
    while True:
        rest = sum(share for i, share in enumerate(shares) if i not in low)
        scale = (1 - least * len(low)) / rest
        found = tuple(least if i in low else scale * share for i, share in enumerate(shares))
        below = {i for i, share in enumerate(found) if share < least}
        if not below:
            return found
        low |= below


class OnlineMixing:
    """The order of a mixture whose weights change, and the hook that changes them.

    Weights decided after a step act `ahead_steps` steps later: those may already be prepared.
    """

    name = "mixture"

    def __init__(
        self,
        mixture: Mixture,
        corpus: Corpus,
        seed: int,
        first_sample: Callable[[int], int],
        ahead_steps: int = 0,
    ) -> None:
        """`first_sample` gives the first global sample of a step of data (from 0)."""
        self.table = mixture.online
        self.sources = list(corpus.sources)
        self.counts = [it.splits["train"]["num_samples"] for it in corpus.sources.values()]
        self.seed, self.first_sample, self.ahead_steps = seed, first_sample, ahead_steps
        shares = shares_of(mixture, corpus)
        weights = self.begin = shares.weights
        named = dict(zip(self.sources, weights, strict=True))
        self.domains = watched_domains(self.table, named, corpus)
        parts = [math.fsum(weights[i] for i in numbers) for numbers in self.domains.values()]
        self.watched = math.fsum(parts)  # share of the mixture that the method divides
        prior = self.prior = tuple(part / self.watched for part in parts)
        self.history = History.begin(weights, shares.limits)
        self.learning = Learning(0, prior, prior, prior, prior)

    def order(self, start: int, count: int) -> Order:
        """Which samples the global sample numbers are."""
        return piecewise_order(self.counts, self.history, self.seed, start, count)

    def state(self) -> dict[str, Any]:
        """All changes as [first global sample, weight of each source], and what they follow
        from."""
        return {
            "history": [[it.start, list(it.weights)] for it in self.history.stretches],
            "learning": asdict(self.learning),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        (_, weights), *changes = state["history"]
        history = History.begin(tuple(weights), self.history.limits)
        for start, changed in changes:
            history = history.then(start, tuple(changed))
        found = state["learning"]
        losses = tuple((tokens, tuple(row)) for tokens, row in found["losses"])
        shares = {key: tuple(found[key]) for key in ("shares", "preference", "credit", "average")}
        self.history = history
        self.learning = Learning(step=found["step"], losses=losses, **shares)

    def after_step(self, done: Done) -> Mapping[str, float]:
        """Change the weights after an evaluation; the share of each source, and what it follows
        from."""
        if done.evaluation is None:
            return {}
        metrics = {}
        found = [done.evaluation.metrics.get(f"loss_by_domain/{it}") for it in self.domains]
        losses = tuple(loss for loss in found if loss is not None and 0 < loss < math.inf)
        if done.progress >= self.table.warmup_share and len(losses) == len(found):
            self.learning = self.learning.measured(done.position.tokens, losses)
            if len(self.learning.losses) >= self.table.min_evaluations and not done.is_last:
                speeds = self.learning.speeds()
                self.change(done, speeds)
                named = zip(self.domains, speeds, strict=True)
                metrics = {f"learning_speed/{domain}": speed for domain, speed in named}
        weights = zip(self.sources, self.history.stretches[-1].weights, strict=True)
        return metrics | {f"mixture/{name}": weight for name, weight in weights if weight}

    def change(self, done: Done, speeds: Floats) -> None:
        position = done.position
        # Processors may round powers and logarithms differently: rank 0 decides.
        self.learning = processes.from_rank_0(
            self.learning.changed(self.table, self.prior, speeds, position.step)
        )
        weights = list(self.begin)
        domains = zip(self.domains.values(), self.prior, self.learning.shares, strict=True)
        for numbers, prior, share in domains:
            for i in numbers:
                weights[i] = self.begin[i] * share / prior
        step = position.step + position.data_offset + self.ahead_steps
        self.history = self.history.then(self.first_sample(step), tuple(weights))
