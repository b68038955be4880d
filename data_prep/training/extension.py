"""Add pieces to an existing vocabulary, learnt on text of a new domain.

The text is encoded as before; then, inside words, the two neighbouring pieces that stand side by
side most often become one, again and again (byte pair encoding that goes on where it stopped:
Sennrich et al. 2016). The pieces are entries of the vocabulary like all others, behind them, so old
ids stay. What a text becomes changes only where a new piece is found in it:

- BPE, byte-level or not: the merges come after all others, so every text is first cut as before.
- WordPiece: as always the longest entry that fits is taken, and new ones may be the longest.
- Unigram: a piece scores as much as the best old way to spell it and one step more, so it is taken
  wherever that way was best, and otherwise competes as the old pieces do.
"""

import heapq
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice, pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from data_prep.sentencepiece_model import SCORE_STEP, SPACE
from data_prep.word_starts import BYTE_TOKEN, WordBounds, pieces, word_bounds
from runtime.errors import DataError

MIN_COUNT = 3  # of a pair that becomes a piece
TEXTS_A_CALL = 1 << 8
BYTE_SPACE = "\u0120"  # stands for a space in byte-level pieces
KINDS = ("WordPiece", "BPE", "Unigram")
Word = tuple[int, ...]  # ids of a word's pieces


@dataclass(frozen=True)
class Merge:
    """Two pieces that become one."""

    first: str
    second: str
    whole: str


def extend(
    tokenizer: Tokenizer, special_ids: Iterable[int], texts: Iterable[str], count: int
) -> Tokenizer:
    """The tokenizer with up to `count` pieces more, fewer if the text is too small. The same texts
    give the same pieces. Raises DataError if it cannot be extended or nothing can be learnt."""
    description = json.loads(tokenizer.to_str())
    check(description)
    size = size_of(description)
    by_id = {number: piece for piece, number in tokenizer.get_vocab(with_added_tokens=True).items()}
    apart = [number for number, piece in by_id.items() if BYTE_TOKEN.fullmatch(piece)]
    is_apart = np.zeros(size, bool)
    is_apart[[*special_ids, *apart]] = True
    words = count_words(tokenizer, word_bounds(description, size), is_apart, texts)
    prefix = description["model"].get("continuing_subword_prefix") or ""
    merges = list(islice(learn(words, by_id, size, prefix), count))
    if not merges:
        raise DataError(
            "tokenizer.extend_by: no two pieces stand side by side in the text often enough to "
            "become one; give more text, or remove extend_by"
        )
    add(tokenizer, description, merges, size)
    extended = Tokenizer.from_str(json.dumps(description))
    extended.encode_special_tokens = tokenizer.encode_special_tokens
    return extended


def check(description: dict[str, Any]) -> None:
    """Raise DataError if the vocabulary cannot grow without changing what is there."""
    model = description["model"]
    kind = model.get("type")
    if kind not in KINDS:
        raise DataError(
            f"tokenizer.extend_by: a {kind} tokenizer cannot be extended, only {', '.join(KINDS)}; "
            "remove extend_by"
        )
    beyond = [token for token in description["added_tokens"] if token["id"] >= len(model["vocab"])]
    if kind == "Unigram" and beyond:
        raise DataError(
            f"tokenizer.extend_by: {beyond[0]['content']!r} has the id that the first new piece "
            "would get (ids of a Unigram vocabulary are its places); remove extend_by"
        )


def count_words(
    tokenizer: Tokenizer, bounds: WordBounds, is_apart: NDArray[np.bool_], texts: Iterable[str]
) -> Counter[Word]:
    """How often each word of more than one piece occurs. Pieces `is_apart` (V,) are words alone."""
    begins, ends = bounds.begins | is_apart, bounds.ends | is_apart
    counts: Counter[bytes] = Counter()
    source = iter(texts)
    while batch := list(islice(source, TEXTS_A_CALL)):
        for encoded in tokenizer.encode_batch(batch, add_special_tokens=False):
            ids = np.array(encoded.ids, np.int32)
            numbers = np.array(encoded.word_ids, np.int64)  # of what the pre-tokenizer cuts
            is_start = begins[ids]
            is_start[1:] |= ends[ids[:-1]] | (numbers[1:] != numbers[:-1])
            is_start[:1] = True
            bounds_of = np.append(np.flatnonzero(is_start), len(ids))
            is_long = np.diff(bounds_of) > 1
            cuts = zip(bounds_of[:-1][is_long], bounds_of[1:][is_long], strict=True)
            counts.update(ids[start:end].tobytes() for start, end in cuts)
    return Counter({tuple(np.frombuffer(word, np.int32).tolist()): n for word, n in counts.items()})


def learn(words: Counter[Word], by_id: dict[int, str], size: int, prefix: str) -> Iterator[Merge]:
    """Merges in the order they are learnt, the first of id `size`. Of pairs as frequent, the first
    by their pieces' ids."""
    spelt, known = dict(by_id), set(by_id.values())
    held = sorted(words.items())
    counts: Counter[tuple[int, int]] = Counter()
    places: defaultdict[tuple[int, int], set[int]] = defaultdict(set)  # words that hold a pair
    for place, (word, count) in enumerate(held):
        for pair in pairwise(word):
            counts[pair] += count
            places[pair].add(place)
    heap = [(-count, pair) for pair, count in counts.items()]
    heapq.heapify(heap)
    while heap:
        found, pair = heapq.heappop(heap)
        if counts[pair] < MIN_COUNT:
            continue
        if counts[pair] != -found:  # it was more frequent before other merges
            heapq.heappush(heap, (-counts[pair], pair))
            continue
        first, second = (spelt[number] for number in pair)
        whole = first + second.removeprefix(prefix)
        if whole in known or is_number(whole.removeprefix(prefix)):
            continue
        number = size + len(spelt) - len(by_id)
        spelt[number] = whole
        known.add(whole)
        changed = set()
        for place in places.pop(pair):
            word, count = held[place]
            joined = merged(word, pair, number)
            held[place] = joined, count
            for old in pairwise(word):
                counts[old] -= count
            for new in pairwise(joined):
                counts[new] += count
                places[new].add(place)
                changed.add(new)
        for new in sorted(changed):
            if number in new:
                heapq.heappush(heap, (-counts[new], new))
        yield Merge(first, second, whole)


def merged(word: Word, pair: tuple[int, int], number: int) -> Word:
    """The word with each occurrence of a pair replaced by one piece."""
    found: list[int] = []
    place = 0
    while place < len(word):
        is_pair = word[place : place + 2] == pair
        found.append(number if is_pair else word[place])
        place += 1 + is_pair
    return tuple(found)


def is_number(piece: str) -> bool:
    """True for digits, which together would only be remembered."""
    return piece.lstrip(SPACE + BYTE_SPACE).isdigit()


def add(tokenizer: Tokenizer, description: dict[str, Any], merges: list[Merge], size: int) -> None:
    """Enter the pieces behind the others, from id `size` on."""
    model = description["model"]
    vocabulary = model["vocab"]
    if model["type"] == "Unigram":
        for merge in merges:
            parts = [vocabulary[token.id][1] for token in tokenizer.model.tokenize(merge.whole)]
            vocabulary.append([merge.whole, sum(parts) + SCORE_STEP * (len(parts) - 1)])
        return
    for number, merge in enumerate(merges, size):
        vocabulary[merge.whole] = number
    if model["type"] == "BPE":
        are_joined = bool(model["merges"]) and isinstance(model["merges"][0], str)
        for merge in merges:
            pair = [merge.first, merge.second]
            model["merges"].append(" ".join(pair) if are_joined else pair)


def differences(old: Tokenizer, new: Tokenizer) -> list[str]:
    """The parts of tokenizer.json that make a tokenizer another one than the old one, extended or
    not; empty if it is that one."""
    before, after = (json.loads(tokenizer.to_str()) for tokenizer in (old, new))
    parts = ("normalizer", "pre_tokenizer", "added_tokens")
    differing = [part for part in parts if before.get(part) != after.get(part)]
    is_extended = goes_on(before["model"], after["model"], size_of(before))
    return differing if is_extended else ["model", *differing]


def goes_on(first: dict[str, Any], second: dict[str, Any], size: int) -> bool:
    """True if a model has all of another one and its own pieces behind, from id `size` on."""
    names = (first.keys() | second.keys()) - {"vocab", "merges"}
    merges, more = first.get("merges") or [], second.get("merges") or []
    if any(first.get(name) != second.get(name) for name in names) or more[: len(merges)] != merges:
        return False
    known, vocabulary = first["vocab"], second["vocab"]
    if isinstance(known, list):
        return bool(vocabulary[: len(known)] == known)
    added = [number for piece, number in vocabulary.items() if piece not in known]
    return all(number >= size for number in added) and all(
        vocabulary.get(piece) == number for piece, number in known.items()
    )


def new_pieces(old: Tokenizer, new: Tokenizer) -> dict[str, int]:
    """The ids of what an extended tokenizer has beyond the old one, possibly nothing."""
    before, after = (tokenizer.get_vocab(with_added_tokens=True) for tokenizer in (old, new))
    return {piece: number for piece, number in after.items() if piece not in before}


def size_of(description: dict[str, Any]) -> int:
    """Ids are below this."""
    ids = [number for _, number in pieces(description)]
    return 1 + int(max([*ids, *(token["id"] for token in description["added_tokens"])]))


def old_pieces(old: Tokenizer, prefix: str, piece: str) -> list[int]:
    """The ids by which the tokenizer without the new pieces spells one of them."""
    if not prefix or not piece.startswith(prefix):
        return [token.id for token in old.model.tokenize(piece)]
    found: list[int] = []
    rest = piece.removeprefix(prefix)
    while rest:
        fitting = (old.token_to_id(prefix + rest[:end]) for end in range(len(rest), 0, -1))
        ends = zip(fitting, range(len(rest), 0, -1), strict=True)
        number, end = next(((number, end) for number, end in ends if number is not None), (None, 0))
        if number is None:
            return []
        found.append(number)
        rest = rest[end:]
    return found
