"""How sure the model is, made true, and how sure it must be: fitted on valid rows.

One temperature for all scores: that which gives the gold tags of whole sentences the highest
likelihood (Guo et al. 2017, arXiv 1706.04599, here over sequences), under a normal prior of width 1
on its logarithm: rows that are all right would else ask for certainty. It moves probabilities,
never the best sequence. What it did is measured as expected calibration error of the entities
found.

Then the probability from which an entity is predicted (finetune/ner/chain.py): that of the best F1,
within bounds, for rows may be too few to say.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

from finetune.ner import chain as chains
from finetune.ner.chain import Chain
from finetune.ner.windows import Outputs
from finetune.scores import class_metrics
from finetune.scores.threshold import HALF, best_threshold

LARGEST = 20.0  # the temperature is looked for between this and one over it
LEAST, MOST = 0.15, 0.6  # bounds of the threshold


def fit(outputs: Sequence[Outputs], chain: Chain) -> dict[str, Any]:
    """The temperature, and what it changed on these rows; 1 if no row can say anything."""
    usable = [found for found in outputs if len(found.words) and is_possible(found.targets, chain)]
    if not usable:
        return {"temperature": 1.0}
    plain = replace(chain, temperature=1.0)
    members = list(chains.batches([len(found.words) for found in usable]))
    batches = [chains.padded([usable[i].scores for i in group]) for group in members]
    targets = [[usable[i].targets for i in group] for group in members]
    num_words = sum(len(found.words) for found in usable)

    def cost(log_temperature: float) -> float:
        warm = replace(plain, temperature=float(np.exp(log_temperature)))
        parts = zip(batches, targets, strict=True)
        return sum(nll(*batch, gold, warm) for batch, gold in parts)

    limit = float(np.log(LARGEST))
    found = minimize_scalar(
        lambda x: cost(x) + 0.5 * x**2, bounds=(-limit, limit), method="bounded",
        options={"xatol": 1e-3},
    )  # fmt: skip
    temperature = round(float(np.exp(found.x)), 4)
    fitted = replace(plain, temperature=temperature)
    return {
        "temperature": temperature,
        "calibration": {
            "sentences": len(usable),
            "nll_before": cost(0.0) / num_words,  # nats a word
            "nll_after": cost(float(np.log(temperature))) / num_words,
            "ece_before": ece(usable, plain),
            "ece_after": ece(usable, fitted),
        },
    }


def choose(outputs: Sequence[Outputs], chain: Chain) -> dict[str, float]:
    """The probability from which an entity is to be predicted (`threshold`), and strict F1 on these
    rows with the entities of the best sequences (`f1_before`) and with those above it."""
    known = [found for found in outputs if len(found.words) and (found.targets >= 0).all()]
    wanted = [gold_spans(found.targets, chain) for found in known]
    num_gold = sum(map(len, wanted))

    def claims(threshold: float | None) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
        """Of what is predicted: is it exactly right, and how probable."""
        decoded = chains.decode(
            [found.scores for found in known], replace(chain, threshold=threshold)
        )
        pairs = zip(wanted, decoded, strict=True)
        found = [(tuple(span) in gold, sure) for gold, each in pairs for *span, sure in each.spans]
        return np.array([x for x, _ in found], dtype=bool), np.array([x for _, x in found])

    def f1(is_right: NDArray[np.bool_]) -> float:
        return 2.0 * float(is_right.sum()) / max(len(is_right) + num_gold, 1)

    # Those above any higher threshold are the first of these, probabilities falling.
    is_right, chances = claims(LEAST)
    best = best_threshold(is_right, chances, HALF, num_gold)
    threshold = round(min(max(best, LEAST), MOST), 4)
    return {
        "threshold": threshold,
        "f1_before": f1(claims(None)[0]),
        "f1_after": f1(is_right[chances >= threshold]),
    }


def is_possible(targets: NDArray[np.int64], chain: Chain) -> bool:
    """True if all tags are known and valid together."""
    return bool(
        (targets >= 0).all()
        and np.isfinite(chain.start[targets[0]])
        and np.isfinite(chain.between[targets[:-1], targets[1:]]).all()
    )


def nll(
    batch: NDArray[np.float64],
    lengths: NDArray[np.int64],
    targets: Sequence[NDArray[np.int64]],
    chain: Chain,
) -> float:
    """Negative log-likelihood of tags (S, each (N,)), in nats, summed."""
    outputs = np.exp(np.maximum(batch / chain.temperature, -chains.DEEPEST))
    start, follows, end = chain.factors
    _, scales, last = chains.forward_sums(outputs, lengths, start, follows, end)
    total = float(np.log(scales).sum() + np.log(last).sum())
    score = 0.0
    for k, gold in enumerate(targets):
        score += batch[k, np.arange(len(gold)), gold].sum() + chain.start[gold[0]]
        score += chain.between[gold[:-1], gold[1:]].sum() + chain.end[gold[-1]]
    return total - float(score) / chain.temperature


def ece(outputs: Sequence[Outputs], chain: Chain) -> float:
    """Expected calibration error of the entities that are found."""
    confidences: list[float] = []
    is_right: list[bool] = []
    decoded = chains.decode([found.scores for found in outputs], chain)
    for found, best in zip(outputs, decoded, strict=True):
        wanted = gold_spans(found.targets, chain)
        for start, end, label, chance in best.spans:
            confidences.append(chance)
            is_right.append((start, end, label) in wanted)
    right = np.array(is_right, dtype=bool)
    return float(class_metrics.calibration(right, np.array(confidences))["ece"])


def gold_spans(targets: NDArray[np.int64], chain: Chain) -> set[tuple[int, int, int]]:
    """Entities of valid tags: first word, the one behind the last, label it begins with."""
    _, starts, ends = chains.spans_of(targets[None], np.array([len(targets)]), chain)
    return set(zip(starts.tolist(), ends.tolist(), targets[starts].tolist(), strict=True))
