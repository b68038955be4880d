"""Near copies: precision and recall against brute force on real documents, and speed of prints.

    python benchmarks/near_duplicates.py [--quick]

Takes documents of TEXTMILL_DATA/corpora evenly, plants changed copies of a tenth of them, and
compares what the merge drops with the exact Jaccard similarity of word 5-grams of all pairs. Then
all documents are timed: MB of UTF-8 per CPU second of this process, beside `rensa` if it is
installed. Writes results/near_duplicates.json.
"""

import argparse
import os
import random
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import record
import scipy.sparse
import zstandard
from numpy.typing import NDArray

from data_prep import minhash
from data_prep.dedup import Dedup
from data_prep.documents import Document
from data_prep.merge import merge
from data_prep.prints import BAND, Prints
from data_prep.units import Unit
from data_prep.words import words_of
from data_prep.work import Work

ROOT = Path(__file__).resolve().parent.parent
DATA = Path(os.environ.get("TEXTMILL_DATA", ROOT.parent / "shared/data")) / "corpora"
THRESHOLD, NGRAM = 0.8, 5
MARGIN = 0.05  # around the threshold; nearer to it the estimate may go either way
UNIT_DOCUMENTS = 500
MIN_WORDS = 30
BINS = (128, 256)


@dataclass(frozen=True)
class Planted:
    """Texts with changed copies among them."""

    texts: list[str]
    kinds: dict[int, str]  # place of each copy: how it was made


def corpus_texts(path: Path) -> Iterator[str]:
    with path.open("rb") as file, zstandard.ZstdDecompressor().stream_reader(file) as stream:
        for line in stream.read().splitlines():
            yield orjson.loads(line)["text"]


def real_texts(folder: Path, count: int) -> list[str]:
    """Documents spread evenly over all corpora, none with very few words."""
    found: list[str] = []
    paths = sorted(folder.glob("*.jsonl.zst"))
    for path in paths:
        listed = [text for text in corpus_texts(path) if len(words_of(text)) >= MIN_WORDS]
        step = max(1, len(listed) * len(paths) // count)
        found += listed[::step][: count // len(paths)]
    return found


def edited(text: str, share: float, rng: random.Random) -> str:
    """A share of the words replaced by others of the text."""
    words = words_of(text)
    for _ in range(max(1, round(share * len(words)))):
        words[rng.randrange(len(words))] = rng.choice(words)
    return " ".join(words)


def reordered(text: str, rng: random.Random) -> str:
    """Blocks of a twentieth of the lines, or words, in another order."""
    parts, mark = (text.split("\n"), "\n") if text.count("\n") > 20 else (text.split(), " ")
    size = max(1, len(parts) // 20)
    blocks = [parts[i : i + size] for i in range(0, len(parts), size)]
    rng.shuffle(blocks)
    return mark.join(mark.join(block) for block in blocks)


CHANGES: dict[str, Callable[[str, random.Random], str]] = {
    "1 % of words": lambda text, rng: edited(text, 0.01, rng),
    "2 % of words": lambda text, rng: edited(text, 0.02, rng),
    "4 % of words": lambda text, rng: edited(text, 0.04, rng),
    "header and footer": lambda text, rng: f"Home About {rng.random()}\n\n{text}\n\nAll rights.",
    "blocks reordered": reordered,
    "cut to 90 %": lambda text, rng: text[: len(text) * 9 // 10],
}


def planted(texts: Sequence[str], seed: int) -> Planted:
    """The texts and, at random places, a changed copy of every tenth."""
    rng = random.Random(seed)
    rows: list[tuple[str, str | None]] = [(text, None) for text in texts]
    names = list(CHANGES)
    for number, text in enumerate(texts[::10]):
        kind = names[number % len(names)]
        rows.append((CHANGES[kind](text, rng), kind))
    rng.shuffle(rows)
    return Planted(
        [text for text, _ in rows], {i: kind for i, (_, kind) in enumerate(rows) if kind}
    )


def similar_pairs(texts: Sequence[str], threshold: float) -> dict[tuple[int, int], float]:
    """All pairs whose exact Jaccard similarity reaches the threshold: the intersections of all
    pairs of sets, as a product of 0/1 matrices."""
    known: dict[tuple[str, ...], int] = {}
    columns: list[NDArray[np.int64]] = []
    for text in texts:
        words = words_of(text)
        grams = {tuple(words[i : i + NGRAM]) for i in range(max(1, len(words) - NGRAM + 1))}
        columns.append(np.array([known.setdefault(gram, len(known)) for gram in grams]))
    sizes = np.array([len(column) for column in columns])
    starts = np.concatenate([[0], np.cumsum(sizes)])
    ones = np.ones(starts[-1], np.int32)
    shape = (len(texts), len(known))
    matrix = scipy.sparse.csr_matrix((ones, np.concatenate(columns), starts), shape=shape)
    found = {}
    for first in range(0, len(texts), 256):
        common = (matrix[first : first + 256] @ matrix.T).tocoo()
        rows = common.row + first
        similarity = common.data / (sizes[rows] + sizes[common.col] - common.data)
        for place in np.flatnonzero((rows < common.col) & (similarity >= threshold)):
            pair = int(rows[place]), int(common.col[place])
            found[pair] = float(similarity[place])
    return found


def dropped(texts: Sequence[str], table: Dedup, folder: Path) -> NDArray[np.bool_]:
    """Which documents the merge lets go; leaves the prints in `folder`."""
    work, units = Work(folder), []
    for start in range(0, len(texts), UNIT_DOCUMENTS):
        prints = Prints(table)
        for number, text in enumerate(texts[start : start + UNIT_DOCUMENTS]):
            prints.add(Document(str(number), text, "one", "general"))
        units.append(Unit("one", start // UNIT_DOCUMENTS, ()))
        prints.save(work, f"read/{units[-1].name}")
    merge(work, units, {"one": 0}, table)
    return ~np.concatenate([np.load(folder / f"keep/{unit.name}.npy") for unit in units])


def found_pairs(folder: Path, bins: int) -> dict[tuple[int, int], float]:
    """Pairs that share a band, with the similarity that their signatures give."""
    members: dict[int, list[int]] = {}
    for number, path in enumerate(sorted(folder.rglob("*.bands.bin"))):
        for value, document in np.fromfile(path, BAND).tolist():
            members.setdefault(value, []).append(number * UNIT_DOCUMENTS + document)
    pairs = sorted({
        (one, other) for group in members.values() for i, one in enumerate(group)
        for other in group[i + 1 :]
    })  # fmt: skip
    paths = sorted(folder.rglob("*.signatures.bin"))
    stored = np.concatenate([np.fromfile(path, np.uint16).reshape(-1, bins) for path in paths])
    first, second = (np.array(side, np.int64) for side in zip(*pairs, strict=True))
    estimates = minhash.estimate(stored[first], stored[second]).tolist()
    return dict(zip(pairs, estimates, strict=True))


def quality(corpus: Planted, exact: dict[tuple[int, int], float], bins: int) -> dict[str, Any]:
    """Precision and recall, of pairs and of dropped documents. `exact` holds all pairs from half
    the threshold on."""
    true = {pair for pair, similarity in exact.items() if similarity >= THRESHOLD}
    table = Dedup(near=True, exact=False, near_threshold=THRESHOLD, near_bins=bins)
    with tempfile.TemporaryDirectory(prefix="textmill-near-") as name:
        goes = dropped(corpus.texts, table, Path(name))
        candidates = found_pairs(Path(name), bins)
    found = {pair for pair, estimate in candidates.items() if estimate >= THRESHOLD}
    right = {b for a, b in true if not goes[a]}  # documents that have a near copy that stays
    gone = set(np.flatnonzero(goes).tolist())
    lowest = {}
    for a, b in exact:
        if b in gone and not goes[a]:
            lowest[b] = max(lowest.get(b, 0.0), exact[a, b])
    copies = {place for place in corpus.kinds if any(p in true for p in partners(place, exact))}
    return {
        "true_pairs": len(true),
        "candidate_pairs": len(candidates),
        "candidate_precision": share(set(candidates), true),
        "candidate_recall": share(true, set(candidates)),
        "pair_precision": share(found, true),
        "pair_recall": share(true, found),
        "pair_recall_margin": share({p for p in true if exact[p] >= THRESHOLD + MARGIN}, found),
        "pair_precision_margin": share(found, {p for p in exact if exact[p] >= THRESHOLD - MARGIN}),
        "dropped": len(gone),
        "dropped_precision": share(gone, right),
        "dropped_least_similarity": min(lowest.get(place, 0.0) for place in gone),
        "pairs_resolved": float(sum(goes[a] or goes[b] for a, b in true) / len(true)),
        "planted_resolved": resolved(copies, true, goes),
        "planted_by_kind": {
            kind: resolved({p for p in copies if corpus.kinds[p] == kind}, true, goes)
            for kind in CHANGES
        },
    }


def partners(place: int, pairs: dict[tuple[int, int], float]) -> list[tuple[int, int]]:
    return [pair for pair in pairs if place in pair]


def share(part: set[Any], whole: set[Any]) -> float:
    return len(part & whole) / max(len(part), 1)


def resolved(copies: set[int], true: set[tuple[int, int]], goes: NDArray[np.bool_]) -> float:
    """Of the true pairs of planted copies, the share of which one side went."""
    pairs = [pair for pair in true if copies & set(pair)]
    return float(sum(goes[a] or goes[b] for a, b in pairs) / max(len(pairs), 1))


def speed(texts: Sequence[str], table: Dedup) -> float:
    """MB of UTF-8 per CPU second of the prints of all texts, files included."""
    documents = [Document(str(i), text, "one", "general") for i, text in enumerate(texts)]
    with tempfile.TemporaryDirectory(prefix="textmill-near-") as name:
        started = time.process_time()
        for start in range(0, len(documents), 20_000):
            prints = Prints(table)
            for document in documents[start : start + 20_000]:
                prints.add(document)
            prints.save(Work(Path(name)), f"read/one/{start:06d}")
        return megabytes(texts) / (time.process_time() - started)


def rensa_speed(texts: Sequence[str]) -> float:
    """The same of rensa's signatures of 128 permutations; splitting and joining are part of it."""
    try:
        from rensa import RMinHash
    except ImportError:
        return 0.0
    started = time.process_time()
    for text in texts:
        words = text.split()
        signature = RMinHash(num_perm=128, seed=1)
        signature.update([" ".join(words[i : i + NGRAM]) for i in range(len(words) - NGRAM + 1)])
        signature.digest()
    return megabytes(texts) / (time.process_time() - started)


def megabytes(texts: Sequence[str]) -> float:
    return sum(len(text.encode()) for text in texts) / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few documents")
    count, step = (600, 20) if parser.parse_args().quick else (4000, 1)
    corpus = planted(real_texts(DATA, count), seed=1)
    exact = similar_pairs(corpus.texts, THRESHOLD / 2)
    figures: dict[str, float] = {"documents": len(corpus.texts), "planted": len(corpus.kinds)}
    raw: list[Any] = []
    for bins in BINS:
        found = quality(corpus, exact, bins)
        raw.append({"bins": bins, **found})
        kept = (
            *("pair_precision", "pair_recall", "pair_precision_margin", "pair_recall_margin"),
            *("dropped_precision", "dropped_least_similarity", "pairs_resolved"),
        )
        figures |= {f"{key}_{bins}": round(found[key], 4) for key in kept}
    paths = sorted(DATA.glob("*.jsonl.zst"))
    texts = [text for path in paths for text in list(corpus_texts(path))[::step]]
    timed = {
        "exact": Dedup(),
        "exact_lines": Dedup(lines=True),
        **{f"exact_near_{bins}": Dedup(near=True, near_bins=bins) for bins in BINS},
        "exact_lines_near": Dedup(lines=True, near=True),
    }
    for name, table in timed.items():
        figures[f"{name}_mb_per_cpu_second"] = round(speed(texts, table), 1)
    figures["rensa_mb_per_cpu_second"] = round(rensa_speed(texts[::5]), 1)
    path = record.write("near_duplicates", figures, raw)
    print(orjson.dumps({"figures": figures, "raw": raw}, option=orjson.OPT_INDENT_2).decode())
    print(path)


if __name__ == "__main__":
    main()
