"""Whether scored rows were seen in training: in the training rows, in the pretraining text.

Between the splits of a task, by the texts of a row:
    copies   the same texts, or the same but for case, white space and the order of a pair
    near     at least NEAR_WORDS words, and of their shingles (NEAR_SHINGLE words in a row, without
             case and punctuation) a share of NEAR_SHARE is common to both (Jaccard). Candidates
             come from MinHash bands, which miss about one pair in a hundred at that share.
Labels are compared only where texts are the same: a copy with another label is counted apart.

In the pretraining shards (finetune/reports/shard_search.py), by the encoder's own tokens. That
finds what data preparation did not look for; what that did look for is in `contamination`.

Nothing is removed: `warn` says what was found, report.json and the model card keep it.
"""

import json
import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from data_prep import minhash
from data_prep.ngrams import plain_words
from data_prep.words import words_of
from finetune import model_folder
from finetune.augmentation.augmenting import likeness
from finetune.config import Recipe
from finetune.prepare import Prepared
from finetune.reports import shard_search
from finetune.reports.predictions import gold
from runtime import processes, stages

log = logging.getLogger("textmill")

NEAR_WORDS = 8
NEAR_SHINGLE = 3
NEAR_SHARE = 0.8
BINS = 64  # of a signature
BATCH_ROWS = 1 << 13  # whose signatures are held at once
LOUD_SHARE = 0.01  # of a split's rows: from here on it is a warning
SAME_SHARE = 0.9  # of a split's rows: from here on the split is the training file
MOST_EXAMPLES = 5
MOST_CHARACTERS = 200  # of an example


@dataclass(frozen=True)
class Known:
    """The rows that others are compared with."""

    texts: list[tuple[str, ...]]
    labels: list[str]  # as JSON
    equal: Mapping[tuple[str, ...], list[int]]  # by texts
    alike: Mapping[tuple[str, ...], list[int]]  # by what copies have in common


def of(recipe: Recipe, prepared: Prepared) -> dict[str, Any]:
    """Everything, for report.json: by split what was found and that in words, and how the shards
    were searched. Rank 0 does the work and says it aloud; other ranks get nothing."""
    if processes.rank() != 0:
        return {}
    found = between(prepared)
    shards = stages.folder(Path(recipe.output), "data_prep")
    reason = other_corpus(prepared, shards)
    searched = skipped(shards, reason) if reason else in_pretraining(prepared, shards)
    for split, facts in searched.pop("splits").items():
        found[split]["pretraining"] = facts
        found[split]["words"] += f"; {facts['words']}"
    found["pretraining"] = searched
    warn(prepared.name, found)
    return found


def between(prepared: Prepared) -> dict[str, Any]:
    """What training rows have in common with each other, with valid and with test, and valid with
    test."""
    train = known(prepared, "train")
    found: dict[str, Any] = {"train": within(train)}
    for split in prepared.scored:
        found[split] = across(train, known(prepared, split), split)
    if "test" in found:
        valid = known(prepared, "valid")
        rows = known(prepared, "test").texts
        found["test"]["in_valid"] = sum(likeness(texts) in valid.alike for texts in rows)
    return found


def known(prepared: Prepared, split: str) -> Known:
    rows = prepared.data[split].rows
    texts = [tuple(prepared.plugin.texts(row)) for row in rows]
    labels = [json.dumps(gold(prepared.plugin, row), sort_keys=True) for row in rows]
    equal, alike = defaultdict(list), defaultdict(list)
    for number, each in enumerate(texts):
        equal[each].append(number)
        alike[likeness(each)].append(number)
    return Known(texts, labels, dict(equal), dict(alike))


def within(train: Known) -> dict[str, Any]:
    """Rows that repeat an earlier one, and those whose texts have several labels."""
    num_rows = len(train.texts)
    groups = [numbers for numbers in train.equal.values() if len(numbers) > 1]
    conflicts = [numbers for numbers in groups if len({train.labels[i] for i in numbers}) > 1]
    repeated = sum(len(numbers) - 1 for numbers in groups)
    conflicting = sum(map(len, conflicts))
    words = f"{repeated:,} of {num_rows:,} training rows repeat another"
    words += f", {conflicting:,} have the texts of a row with another label"
    return {
        "rows": num_rows,
        "repeated": repeated,
        "conflicting": conflicting,
        "words": words,
        "examples": [
            {
                "rows": numbers[:MOST_EXAMPLES],
                "text": shown(train.texts[numbers[0]]),
                "labels": sorted({train.labels[i] for i in numbers})[:MOST_EXAMPLES],
            }
            for numbers in conflicts[:MOST_EXAMPLES]
        ],
    }


def across(train: Known, rows: Known, split: str) -> dict[str, Any]:
    """What a split has in common with the training rows."""
    equal = [i for i, texts in enumerate(rows.texts) if texts in train.equal]
    alike = [i for i, texts in enumerate(rows.texts) if likeness(texts) in train.alike]
    other_label = [
        i for i in equal
        if rows.labels[i] not in {train.labels[j] for j in train.equal[rows.texts[i]]}
    ]  # fmt: skip
    rest = sorted(set(range(len(rows.texts))) - set(alike))
    near = near_copies(train.texts, [rows.texts[i] for i in rest])
    pairs = [(i, train.alike[likeness(rows.texts[i])][0]) for i in alike]
    pairs += [(rest[i], j) for i, j in near.items()]
    num_rows = len(rows.texts)
    words = f"{len(alike):,} of {num_rows:,} {split} rows in the training rows"
    words += f", {len(other_label):,} with another label" if other_label else ""
    words += f", {len(near):,} nearly" if near else ""
    return {
        "rows": num_rows,
        "equal": len(equal),
        "copies": len(alike),
        "other_label": len(other_label),
        "near": len(near),
        "share": (len(alike) + len(near)) / max(num_rows, 1),
        "words": words,
        "examples": [
            {
                "row": i,
                "text": shown(rows.texts[i]),
                "training_row": j,
                "training_text": shown(train.texts[j]),
            }
            for i, j in pairs[:MOST_EXAMPLES]
        ],
    }


def shown(texts: tuple[str, ...]) -> str:
    text = " | ".join(texts)
    return text if len(text) <= MOST_CHARACTERS else text[: MOST_CHARACTERS - 1] + "…"


def near_copies(
    train: Sequence[tuple[str, ...]], rows: Sequence[tuple[str, ...]]
) -> dict[int, int]:
    """For each of the rows that is nearly a training row, one such row."""
    bands: defaultdict[int, list[int]] = defaultdict(list)
    wanted = {i: plain for i, each in enumerate(rows) if (plain := near_words(each))}
    for i, hashes in banded(wanted).items():
        for value in hashes:
            bands[value].append(i)
    found: dict[int, int] = {}
    for first in range(0, len(train) if wanted else 0, BATCH_ROWS):
        batch = enumerate(train[first : first + BATCH_ROWS], start=first)
        given = {j: plain for j, each in batch if (plain := near_words(each))}
        for j, hashes in banded(given).items():
            candidates = {i for value in hashes for i in bands.get(value, ())}
            for i in candidates - found.keys():
                if similarity(wanted[i], given[j]) >= NEAR_SHARE:
                    found[i] = j
    return dict(sorted(found.items()))


def near_words(texts: tuple[str, ...]) -> list[str]:
    """Words without case and punctuation; none if there are too few to be nearly the same."""
    found = plain_words(words_of(" ".join(texts)))
    return found if len(found) >= NEAR_WORDS else []


def banded(rows: Mapping[int, list[str]]) -> dict[int, list[int]]:
    """The hashes of the bands of each row."""
    if not rows:
        return {}
    texts = [" ".join(words).encode("utf-8", "surrogatepass") for words in rows.values()]
    num_bands, size = minhash.bands_for(NEAR_SHARE, BINS)
    parts = []
    for first in range(0, len(texts), BATCH_ROWS):
        least = minhash.signatures(texts[first : first + BATCH_ROWS], NEAR_SHINGLE, BINS)
        parts.append(minhash.band_hashes(least, num_bands, size))
    return dict(zip(rows, np.concatenate(parts).tolist(), strict=True))


def similarity(first: Sequence[str], second: Sequence[str]) -> float:
    """Jaccard similarity of the shingles of words."""
    one, other = shingles(first), shingles(second)
    return len(one & other) / len(one | other)


def shingles(words: Sequence[str]) -> set[tuple[str, ...]]:
    return {
        tuple(words[i : i + NEAR_SHINGLE]) for i in range(max(len(words) - NEAR_SHINGLE + 1, 1))
    }


def other_corpus(prepared: Prepared, shards: Path) -> str | None:
    """Why the recipe's shards say nothing of this encoder; None if it was trained on them."""
    made_of = model_folder.facts_of(prepared.encoder.folder).get("data")
    corpus = shard_search.fingerprint(shards)
    if corpus is None:
        return f"there are no shards in {shards}"
    if made_of != corpus:
        return f"the encoder was not trained on the shards in {shards}"
    return None


def in_pretraining(prepared: Prepared, shards: Path) -> dict[str, Any]:
    """How the shards were searched for the scored rows, and by split what was found.

    A reason in words stands under `skipped` if they were not searched.
    """
    texts = {
        split: [tuple(prepared.plugin.texts(row)) for row in prepared.data[split].rows]
        for split in prepared.scored
    }
    fingerprint = prepared.encoder.tokenizer_fingerprint
    found = shard_search.search(shards, fingerprint, prepared.encoder.tokenizer, texts)
    if isinstance(found, str):
        return skipped(shards, found)
    return {
        "shards": str(shards),
        "skipped": None,
        "words": found.words,
        "tokens": found.tokens,
        "share": found.share,
        "ngram": shard_search.NGRAM,
        "min_tokens": shard_search.MIN_TOKENS,
        "splits": {split: facts_of(each, split) for split, each in found.splits.items()},
    }


def facts_of(found: shard_search.Found, split: str) -> dict[str, Any]:
    """What the shards hold of a split's rows."""
    words = (
        f"{len(found.rows):,} of {found.num_rows:,} {split} rows share {shard_search.NGRAM} tokens "
        f"in a row with the pretraining shards, {found.num_whole:,} nearly all of theirs"
    )
    return {
        "rows": found.num_rows,
        "found": len(found.rows),
        "whole": found.num_whole,
        "too_short": found.num_short,
        "words": words,
        "examples": [
            {"row": number, "share": round(share, 3), "text": shown(found.texts[number])}
            for number, share in list(found.rows.items())[:MOST_EXAMPLES]
        ],
    }


def skipped(shards: Path, reason: str) -> dict[str, Any]:
    words = f"the scored rows were not looked for in pretraining shards: {reason}"
    return {"shards": str(shards), "skipped": reason, "words": words, "splits": {}}


def warn(name: str, found: Mapping[str, Any]) -> None:
    """Say what makes scores untrustworthy, and what to do."""
    train = found["train"]
    if train["conflicting"] >= LOUD_SHARE * train["rows"]:
        log.warning("%s: %s: decide which label is right", name, train["words"])
    for split, facts in found.items():
        if split in ("train", "pretraining"):
            continue
        if facts["share"] >= SAME_SHARE:
            log.warning(
                "%s: %s IS THE TRAINING DATA: %s; its scores say how well rows were learnt by "
                "heart. Give %s rows of its own.", name, split, facts["words"], split,
            )  # fmt: skip
        elif facts["share"] >= LOUD_SHARE:
            log.warning(
                "%s: %s; %s scores are too high by what was learnt by heart: take these rows out "
                "of one of the files", name, facts["words"], split,
            )  # fmt: skip
        shared = facts.get("pretraining")
        if shared and shared["whole"] >= LOUD_SHARE * shared["rows"]:
            log.warning(
                "%s: %s; name them in [decontaminate.sets] and pretrain again for scores that say "
                "what unseen texts would get", name, shared["words"],
            )  # fmt: skip
