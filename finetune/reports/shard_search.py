"""Find rows of evaluation sets in pretraining shards, by the tokens that the encoder reads.

A row counts as found if NGRAM of its tokens in a row are in the shards; one of fewer tokens only if
all of them are; one of fewer than MIN_TOKENS is not looked for, it would match by chance. `whole`
are the rows of whose tokens a share of WHOLE_SHARE or more lies in such runs (the measure of Llama
2, Touvron et al. 2023, appendix A.6). Both texts of a pair are looked for by themselves.

A text in the middle of a line begins with another token than at its start in tokenizers that keep
spaces, so every text is looked for with and without a space before it. Not found is what packing
cut in two, and what is spelt or spaced otherwise: the counts are lower bounds. Hashes only propose;
every match is compared token by token (data_prep/ngrams.py).

Memory stays below about 100 MB beside the rows themselves. Of very large corpora evenly spread
samples are searched, at most MOST_TOKENS tokens, and the share is said.
"""

import logging
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data_prep.ngrams import NGrams
from data_prep.shards import Corpus, Reader, TokenizerFacts, read_manifest
from finetune.tokenizer import Tokenizer
from runtime.errors import DataError
from runtime.stages import MANIFEST

log = logging.getLogger("textmill")

NGRAM = 13  # tokens
MIN_TOKENS = 8
WHOLE_SHARE = 0.8
CHUNK_TOKENS = 1 << 20  # read at once
MOST_TOKENS = 1 << 30  # searched: about a minute

Texts = tuple[str, ...]


@dataclass(frozen=True)
class Found:
    """What the shards hold of the rows of a split."""

    texts: Sequence[Texts]
    rows: dict[int, float]  # rows found: the share of their tokens that is in the shards
    num_short: int  # rows that were not looked for

    @property
    def num_rows(self) -> int:
        return len(self.texts)

    @property
    def num_whole(self) -> int:
        return sum(share >= WHOLE_SHARE for share in self.rows.values())


@dataclass(frozen=True)
class Searched:
    """What was searched and what was found in it."""

    tokens: int
    share: float  # of the corpus
    words: str
    splits: dict[str, Found]


@dataclass(frozen=True)
class Piece:
    """One spelling of one text of a row."""

    split: str
    row: int
    place: int  # of the text in the row
    ids: NDArray[np.int32]


def fingerprint(folder: Path) -> str | None:
    """Of the shards in a folder; None if there are none."""
    if not (folder / MANIFEST).is_file():
        return None
    try:
        return str(read_manifest(folder)["fingerprint"])
    except DataError:
        return None


def search(
    folder: Path, tokenizer_fingerprint: str, tokenizer: Tokenizer, texts: Mapping[str, list[Texts]]
) -> Searched | str:
    """Look for the rows of splits in the training samples of shards; why not, in words, if these
    shards cannot be searched."""
    if not (folder / MANIFEST).is_file():
        return f"there are no shards in {folder}"
    try:
        corpus = Corpus(folder)
        if corpus.tokenizer.fingerprint != tokenizer_fingerprint:
            return f"the shards in {folder} were written with another tokenizer"
        pieces = [
            piece for split, rows in texts.items() for piece in pieces_of(split, rows, tokenizer)
        ]
        # Words of digits stay as they are there, so ids can stand for words.
        grams = NGrams(([str(id) for id in piece.ids] for piece in pieces), NGRAM, MIN_TOKENS)
        readers = [corpus.reader(source, "train") for source in corpus.sources]
        total = sum(reader.num_tokens for reader in readers)
        step = max(1, -(-total // MOST_TOKENS))
        log.info("looking for the scored rows in %d pretraining tokens", total // step)
        found, tokens = find(grams, readers, corpus.tokenizer, step)
    except DataError as error:
        return str(error)
    share = tokens / max(total, 1)
    words = f"the scored rows were looked for in {tokens:,} pretraining tokens"
    words += "" if step == 1 else f", {share:.1%} of the corpus"
    covered = covered_tokens(grams, pieces, found)
    splits = {split: found_of(split, rows, pieces, covered) for split, rows in texts.items()}
    return Searched(tokens, share, words, splits)


def pieces_of(split: str, rows: Sequence[Texts], tokenizer: Tokenizer) -> list[Piece]:
    """Both spellings of the texts of each row, one if they are the same."""
    places = [(row, place) for row, texts in enumerate(rows) for place in range(len(texts))]
    plain = tokenizer.tokens([rows[row][place] for row, place in places])
    spaced = tokenizer.tokens([f" {rows[row][place]}" for row, place in places])
    found = []
    for (row, place), first, second in zip(places, plain, spaced, strict=True):
        found.append(Piece(split, row, place, first.ids))
        if not np.array_equal(first.ids, second.ids):
            found.append(Piece(split, row, place, second.ids))
    return found


def find(
    grams: NGrams, readers: Sequence[Reader], facts: TokenizerFacts, step: int
) -> tuple[set[int], int]:
    """The grams that occur in the training samples, and how many tokens were looked at. Of every
    `step` chunks one is."""
    pad_id = facts.pad_id
    numbers = np.zeros(facts.vocab_size, np.int32)
    for name, number in grams.numbers.items():
        numbers[int(name)] = number
    found: set[int] = set()
    tokens = 0
    for samples in chunks(readers, step):
        # Every sample begins with a special token, which no gram holds: none spans two samples.
        tokens += int((samples != pad_id).sum())
        found.update(grams.find_numbered(numbers[samples.reshape(-1)]))
    return found, tokens


def chunks(readers: Sequence[Reader], step: int) -> Iterator[NDArray[np.unsignedinteger]]:
    """Samples of all sources, (n, T), some at a time."""
    number = 0
    for reader in readers:
        at_once = max(1, CHUNK_TOKENS // reader.sequence_length)
        for first in range(0, reader.num_samples, at_once):
            if number % step == 0:
                last = min(first + at_once, reader.num_samples)
                yield reader.tokens(np.arange(first, last))
            number += 1


def covered_tokens(
    grams: NGrams, pieces: Sequence[Piece], found: set[int]
) -> dict[tuple[str, int, int], int]:
    """Of each text that was found, by split, row and place, how many of its tokens lie in grams
    that were found: the more of both spellings."""
    known = {grams.gram(number).tobytes() for number in found}
    begins = np.cumsum(grams.lengths) - grams.lengths
    counts: dict[tuple[str, int, int], int] = {}
    for number in grams.texts_with(found):
        piece = pieces[number]
        words = grams.words[begins[number] : begins[number] + grams.lengths[number]]
        is_covered = np.zeros(len(words), bool)
        size = min(NGRAM, len(words))
        for start in range(len(words) - size + 1):
            if words[start : start + size].tobytes() in known:
                is_covered[start : start + size] = True
        key = (piece.split, piece.row, piece.place)
        counts[key] = max(counts.get(key, 0), int(is_covered.sum()))
    return counts


def found_of(
    split: str,
    rows: Sequence[Texts],
    pieces: Sequence[Piece],
    covered: Mapping[tuple[str, int, int], int],
) -> Found:
    """What was found of a split."""
    lengths: defaultdict[int, dict[int, int]] = defaultdict(dict)  # by row and place
    for piece in pieces:
        if piece.split == split:
            lengths[piece.row].setdefault(piece.place, len(piece.ids))
    counts: Counter[int] = Counter()
    for (name, row, _), count in covered.items():
        if name == split:
            counts[row] += count
    shares = {
        row: min(counts[row] / max(sum(lengths[row].values()), 1), 1.0) for row in sorted(counts)
    }
    num_short = sum(max(places.values()) < MIN_TOKENS for places in lengths.values())
    return Found(rows, shares, num_short)
