"""The chain of a sentence's tags: the best valid one, and which entities are how probable.

A sequence of tags scores the sum of its outputs and of its transitions; what IOB2 forbids scores
minus infinity; its probability is the exponential over the sum of all valid sequences' (a linear
chain; Lafferty, McCallum and Pereira 2001). Without a CRF the transitions are 0. Viterbi's
algorithm finds the best sequence, the forward-backward algorithm sums over all of them: the
probability that an entity of exactly these words and this type is there.
All scores are divided by one temperature, which moves probabilities and never the best sequence.

The most probable sequence need not hold the entities that are probable: where many sequences say
about the same, an entity of the best one may have a probability of 0.3, and F1 is best if those
above one threshold are predicted (Ye et al. 2012, arXiv 1206.4625; Lipton, Elkan and Narayanaswamy
2014, arXiv 1402.1892). A chain with a threshold decodes so; of two that overlap the more probable
one is taken. Sentences of like length are computed together, numpy only.
"""

# S sentences  T words of the longest  L labels

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from finetune.ner import tags

BATCH = 256  # sentences computed together
BATCH_WORDS = 1 << 15  # padding included; a longer sentence is alone
DEEPEST = 460.0  # nats below a word's best output, where outputs are cut: exp stays positive


Entity = tuple[int, int, int, float]  # start, end, label it begins with, probability
# Many of them: sentence, start, end, label it begins with; and probability. (E,) each.
Entities = tuple[
    NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]
]


@dataclass(frozen=True)
class Chain:
    """How tags may follow each other, and what that scores, in nats at temperature 1."""

    labels: tuple[str, ...]
    start: NDArray[np.float64]  # (L,) of a sentence's first tag; -inf: not allowed
    between: NDArray[np.float64]  # (L, L) of the column's tag after the row's
    end: NDArray[np.float64]  # (L,) of a sentence's last tag
    temperature: float = 1.0
    is_plain: bool = True  # nothing but rules: all allowed transitions score alike
    # Probability from which an entity is predicted; None: the entities of the best sequence are.
    threshold: float | None = None

    @property
    def factors(self) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Exponentials of start, between and end at the chain's temperature; 0: not allowed."""
        start, between, end = (
            np.exp(part / self.temperature) for part in (self.start, self.between, self.end)
        )
        return start, between, end

    @property
    def is_begin(self) -> NDArray[np.bool_]:
        return np.array([label.startswith("B-") for label in self.labels])

    @property
    def is_inside(self) -> NDArray[np.bool_]:
        return np.array([label.startswith("I-") for label in self.labels])

    @property
    def inside(self) -> NDArray[np.int64]:
        """(L,) the tag that continues an entity that the label begins; 0 for others."""
        return np.array(
            [self.labels.index(f"I-{x[2:]}") if x.startswith("B-") else 0 for x in self.labels]
        )


def chain_of(labels: Sequence[str], decoding: Mapping[str, Any]) -> Chain:
    """The chain that a model's `decoding` describes: `transitions` of a CRF, `temperature`,
    `threshold`."""
    rules = tags.transitions(labels)
    given = decoding.get("transitions", rules)
    parts = {}
    for name, rule in rules.items():
        is_allowed = np.array(rule) > tags.FORBIDDEN
        parts[name] = np.where(is_allowed, np.array(given[name], dtype=np.float64), -np.inf)
    values = np.concatenate([part.ravel() for part in parts.values()])
    is_plain = bool((values[np.isfinite(values)] == 0).all())
    return Chain(
        tuple(labels),
        **parts,
        temperature=decoding.get("temperature", 1.0),
        is_plain=is_plain,
        threshold=decoding.get("threshold"),
    )


@dataclass(frozen=True)
class Decoded:
    """What is found in one sentence."""

    spans: list[Entity]  # of the best tags, or above the chain's threshold; in text order
    is_repaired: bool  # the most probable tags word by word are not valid


def decode(scores: Sequence[NDArray[np.float32]], chain: Chain) -> list[Decoded]:
    """The entities of sentences from their logits (N, L), N > 0."""
    found: dict[int, Decoded] = {}
    for members in batches([len(each) for each in scores]):
        batch, lengths = padded([scores[i] for i in members])
        tops: NDArray[np.int64] = batch.argmax(axis=2)  # word by word
        needs_repair = ~are_valid(tops, lengths, chain)
        posterior = posteriors(batch, lengths, chain)
        if chain.threshold is None:
            searched = needs_repair | (not chain.is_plain)
            tops[searched] = viterbi(batch[searched], lengths[searched], chain)
            rows, starts, ends = spans_of(tops, lengths, chain)
            kinds = tops[rows, starts]
            chances = span_probabilities(posterior, rows, starts, ends, kinds)
            spans = by_sentence((rows, starts, ends, kinds, chances), len(members))
        else:
            likely = likely_spans(posterior, chain.threshold)
            spans = [apart(some) for some in by_sentence(likely, len(members))]
        for k, i in enumerate(members):
            found[i] = Decoded(spans[k], bool(needs_repair[k]))
    return [found[i] for i in range(len(scores))]


def by_sentence(found: Entities, num: int) -> list[list[Entity]]:
    """The entities of each of `num` sentences."""
    rows, starts, ends, kinds, chances = found
    spans: list[list[Entity]] = [[] for _ in range(num)]
    columns = (rows, starts, ends, kinds, chances.clip(max=1.0))
    for row, start, end, kind, chance in zip(*(x.tolist() for x in columns), strict=True):
        spans[row].append((start, end, kind, chance))
    return spans


def apart(spans: Sequence[Entity]) -> list[Entity]:
    """Of entities that overlap the more probable ones, in text order."""
    kept: list[Entity] = []
    for span in sorted(spans, key=lambda span: -span[3]):
        if all(span[1] <= start or end <= span[0] for start, end, *_ in kept):
            kept.append(span)
    return sorted(kept)


def batches(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Sentences by length, so that little of a batch is padding, and few of long ones."""
    batch: list[int] = []
    for i in np.argsort(lengths, kind="stable").tolist():
        if batch and (len(batch) == BATCH or (len(batch) + 1) * lengths[i] > BATCH_WORDS):
            yield batch
            batch = []
        batch.append(i)
    if batch:
        yield batch


def padded(
    scores: Sequence[NDArray[np.float32]],
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Scores (S, T, L), 0 at the best tag of each word, and lengths (S,)."""
    lengths = np.array([len(each) for each in scores])
    batch = np.zeros((len(scores), lengths.max(), scores[0].shape[1]))
    batch[np.arange(lengths.max()) < lengths[:, None]] = np.concatenate(scores)
    batch -= batch.max(axis=2, keepdims=True)
    return batch, lengths


def are_valid(
    paths: NDArray[np.int64], lengths: NDArray[np.int64], chain: Chain
) -> NDArray[np.bool_]:
    """(S,) which tags (S, T) may follow each other so."""
    steps = np.isfinite(chain.between)[paths[:, :-1], paths[:, 1:]]
    steps |= np.arange(1, paths.shape[1]) >= lengths[:, None]
    found: NDArray[np.bool_] = steps.all(axis=1) & np.isfinite(chain.start)[paths[:, 0]]
    return found


def viterbi(
    batch: NDArray[np.float64], lengths: NDArray[np.int64], chain: Chain
) -> NDArray[np.int64]:
    """The tags (S, T) with the highest sum of scores and transitions."""
    num, longest, num_labels = batch.shape
    stay = np.arange(num_labels)
    total = batch[:, 0] + chain.start
    pointers = np.empty((longest, num, num_labels), dtype=np.int64)
    for n in range(1, longest):
        paths = total[:, :, None] + chain.between  # (S, L before, L)
        is_open = (lengths > n)[:, None]
        pointers[n] = np.where(is_open, paths.argmax(axis=1), stay)
        total = np.where(is_open, paths.max(axis=1) + batch[:, n], total)
    best = np.empty((num, longest), dtype=np.int64)
    best[:, -1] = (total + chain.end).argmax(axis=1)
    for n in range(longest - 1, 0, -1):
        best[:, n - 1] = pointers[n][np.arange(num), best[:, n]]
    return best


@dataclass(frozen=True)
class Posterior:
    """Sums over all valid sequences, in the scaled form of Rabiner (1989), eq. 91 to 96."""

    chain: Chain
    lengths: NDArray[np.int64]  # (S,)
    outputs: NDArray[np.float64]  # (S, T, L) exp of the scores
    follows: NDArray[np.float64]  # (L, L) exp of the transitions
    forward: NDArray[np.float64]  # (S, T, L)
    backward: NDArray[np.float64]  # (S, T, L)
    scales: NDArray[np.float64]  # (S, T) of forward at each word; 1 behind the end


def posteriors(batch: NDArray[np.float64], lengths: NDArray[np.int64], chain: Chain) -> Posterior:
    """Forward and backward sums of sentences (S, T, L) of scores."""
    outputs = np.exp(np.maximum(batch / chain.temperature, -DEEPEST))
    start, follows, end = chain.factors
    forward, scales, last = forward_sums(outputs, lengths, start, follows, end)
    backward = np.empty_like(forward)
    backward[:, -1] = end / last[:, None]
    for n in range(batch.shape[1] - 1, 0, -1):
        ahead = (outputs[:, n] * backward[:, n] / scales[:, n, None]) @ follows.T
        is_open = (lengths > n)[:, None]
        backward[:, n - 1] = np.where(is_open, ahead, backward[:, n])
    return Posterior(chain, lengths, outputs, follows, forward, backward, scales)


def forward_sums(
    outputs: NDArray[np.float64],
    lengths: NDArray[np.int64],
    start: NDArray[np.float64],
    follows: NDArray[np.float64],
    end: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Forward sums (S, T, L) that add to 1 at each word, their scales (S, T), and that of the
    end (S,)."""
    forward = np.empty_like(outputs)
    scales = np.ones(outputs.shape[:2])
    current = start * outputs[:, 0]
    for n in range(outputs.shape[1]):
        if n:
            is_open = (lengths > n)[:, None]
            current = np.where(is_open, (current @ follows) * outputs[:, n], current)
        scales[:, n] = current.sum(axis=1)
        current = current / scales[:, n, None]
        forward[:, n] = current
    return forward, scales, current @ end


def spans_of(
    paths: NDArray[np.int64], lengths: NDArray[np.int64], chain: Chain
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Entities of valid tags (S, T): sentence, first word, and the word behind the last."""
    is_word = np.arange(paths.shape[1]) < lengths[:, None]
    begins = chain.is_begin[paths] & is_word
    insides = chain.is_inside[paths] & is_word
    goes_on = np.zeros_like(insides)
    goes_on[:, :-1] = insides[:, 1:]
    rows, starts = np.nonzero(begins)
    _, lasts = np.nonzero((begins | insides) & ~goes_on)  # one for each start, in the same order
    return rows, starts, lasts + 1


def span_probabilities(
    posterior: Posterior,
    rows: NDArray[np.int64],
    starts: NDArray[np.int64],
    ends: NDArray[np.int64],
    begins: NDArray[np.int64],
) -> NDArray[np.float64]:
    """Probability that an entity begins at `starts` with this label and ends before `ends`.

    The sum over all valid sequences that begin it there, go on inside and do not go on after it.
    """
    chain = posterior.chain
    insides = chain.inside[begins]
    with np.errstate(divide="ignore"):
        outputs = np.log(posterior.outputs) - np.log(posterior.scales)[:, :, None]
        follows = np.log(posterior.follows)
        through = np.cumsum(outputs, axis=1)
        found = np.log(posterior.forward[rows, starts, begins])
    found += through[rows, ends - 1, insides] - through[rows, starts, insides]
    size = ends - starts
    found += np.where(size > 1, follows[begins, insides], 0.0)
    found += np.maximum(size - 2, 0) * follows[insides, insides]
    last_tag = np.where(size > 1, insides, begins)
    return np.exp(found) * leaving(posterior, rows, ends, last_tag, insides)


def likely_spans(posterior: Posterior, least: float) -> Entities:
    """All entities of at least this probability, which may overlap where it is below a half.

    Grown a word at a time from where one is likely to begin, as long as one is likely to go on.
    """
    chain, outputs = posterior.chain, posterior.outputs
    begins = np.flatnonzero(chain.is_begin)
    chances = posterior.forward[:, :, begins] * posterior.backward[:, :, begins]
    chances[np.arange(outputs.shape[1]) >= posterior.lengths[:, None]] = 0.0
    rows, starts, places = np.nonzero(chances >= least)
    kinds = begins[places]
    sums = posterior.forward[rows, starts, kinds]
    found: list[Entities] = []
    for size in itertools.count(1):
        ends, insides = starts + size, chain.inside[kinds]
        last_tag = kinds if size == 1 else insides
        chances = sums * leaving(posterior, rows, ends, last_tag, insides)
        ok = chances >= least
        found.append((rows[ok], starts[ok], ends[ok], kinds[ok], chances[ok]))
        at = np.minimum(ends, outputs.shape[1] - 1)
        sums = sums * posterior.follows[last_tag, insides] * outputs[rows, at, insides]
        sums /= posterior.scales[rows, at]
        goes_on = ends < posterior.lengths[rows]
        goes_on &= sums * posterior.backward[rows, at, insides] >= least
        if not goes_on.any():
            break
        rows, starts, kinds, sums = rows[goes_on], starts[goes_on], kinds[goes_on], sums[goes_on]
    rows, starts, ends, kinds, chances = (np.concatenate(x) for x in zip(*found, strict=True))
    return rows, starts, ends, kinds, chances


def leaving(
    posterior: Posterior,
    rows: NDArray[np.int64],
    ends: NDArray[np.int64],
    last_tag: NDArray[np.int64],
    insides: NDArray[np.int64],
) -> NDArray[np.float64]:
    """Of the sums behind an entity's last word, those in which it does not go on."""
    is_last = ends == posterior.lengths[rows]
    at = np.minimum(ends, posterior.outputs.shape[1] - 1)
    ahead = posterior.outputs[rows, at] * posterior.backward[rows, at]
    ahead /= posterior.scales[rows, at][:, None]
    ahead[np.arange(len(rows)), insides] = 0.0
    onward = (posterior.follows[last_tag] * ahead).sum(axis=1)
    found: NDArray[np.float64] = np.where(
        is_last, posterior.backward[rows, ends - 1, last_tag], onward
    )
    return found
