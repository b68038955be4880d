"""`inspect FOLDER|RECIPE [--source NAME] [--split SPLIT] [--sample N ...] [--tokens]`: see samples.

Shows samples decoded, one segment after the other, with the document each came from (the shards
know it as the xxh3_64 of "source/id") and the padding. Without `--sample` some are drawn at random.
Characters that would move the cursor are shown as escapes.
"""

import random
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.text import Text

from data_prep.commands import corpus
from data_prep.shards import Corpus, Rows, Split, TokenizerFacts
from data_prep.tokenizer import load_json
from runtime.errors import DataError

SPECIAL, EDGE, FAINT = "bold magenta", "bold cyan", "dim"  # console styles
SHADES = ("", "on grey23")  # of tokens in turn


@dataclass(frozen=True)
class Place:
    """A sample of the corpus."""

    source: str
    sample: int  # within source and split


def add_arguments(parser: ArgumentParser) -> None:
    corpus.add_arguments(parser)
    parser.add_argument("--source", help="of this source; without it: any")
    parser.add_argument("--split", choices=("train", "valid"), default="train")
    parser.add_argument("--sample", type=int, nargs="+", default=[], metavar="N",
                        help="these samples of --source, counted from 0")  # fmt: skip
    parser.add_argument("--num", type=int, default=3, help="how many at random (default: 3)")
    parser.add_argument("--seed", type=int, default=0, help="of the random choice (default: 0)")
    parser.add_argument("--tokens", action="store_true", help="token by token, as it spells them")


def run(found: Namespace) -> None:
    opened = Corpus(corpus.folder_of(found))
    places = chosen(opened, found)
    decode = load_json(opened.tokenizer.folder / "tokenizer.json")
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")  # a terminal may know few characters
    console = Console(highlight=False, soft_wrap=True, markup=False)
    for place in places:
        rows = opened.reader(place.source, found.split).gather(np.array([place.sample]))
        console.print(title(place, found.split, rows, opened.tokenizer), style="bold")
        for number, (document, ids) in enumerate(segments(rows), start=1):
            edge = f"-- segment {number}/{rows.counts[0]}  {len(ids)} tokens"
            console.print(f"{edge}  document {document:016x}", style=EDGE)
            if found.tokens:
                console.print(token_by_token(decode, ids, opened.tokenizer))
            else:
                console.print(printable(decode.decode(inner(ids, opened.tokenizer)), "\n\t"))
        console.print()


def chosen(opened: Corpus, found: Namespace) -> list[Place]:
    """The samples to show. Raises DataError if there are none such."""
    names = list(opened.sources) if found.source is None else [found.source]
    counts = {name: opened.reader(name, found.split).num_samples for name in names}
    total = sum(counts.values())
    if not total:
        raise DataError(f"there is no {found.split} sample in {', '.join(names)}")
    if found.sample:
        if len(names) > 1:
            raise DataError(f"--sample needs --source; sources are: {', '.join(names)}")
        beyond = [number for number in found.sample if not 0 <= number < total]
        if beyond:
            raise DataError(
                f"{names[0]} has {found.split} samples 0 to {total - 1}; given {beyond[0]}"
            )
        return [Place(names[0], number) for number in found.sample]
    drawn = random.Random(found.seed).sample(range(total), min(found.num, total))
    return [place_of(number, counts) for number in drawn]


def place_of(number: int, counts: dict[str, int]) -> Place:
    """The sample with this number when sources stand one after the other."""
    for name, count in counts.items():
        if number < count:
            return Place(name, number)
        number -= count
    raise AssertionError(number)


def title(place: Place, split: Split, rows: Rows, tokenizer: TokenizerFacts) -> str:
    used, length = int(rows.lengths.sum()), rows.tokens.shape[1]
    return (
        f"{place.source}/{split} sample {place.sample}: {rows.counts[0]} segments, {used} tokens, "
        f"{length - used} padding"
    )


def segments(rows: Rows) -> Iterator[tuple[int, NDArray[np.int32]]]:
    """Document and token ids of each segment of one sample."""
    ends = np.cumsum(rows.lengths)
    parts = np.split(rows.tokens[0, : ends[-1]], ends[:-1])
    yield from zip((int(document) for document in rows.documents), parts, strict=True)


def inner(ids: NDArray[np.int32], tokenizer: TokenizerFacts) -> list[int]:
    """A segment without [CLS] and [SEP]; what else is special in the text is shown."""
    separators = (tokenizer.cls_id, tokenizer.sep_id)
    first, end = int(ids[0] in separators), len(ids) - int(ids[-1] in separators)
    return [int(id) for id in ids[first:end]]


def token_by_token(decode: Any, ids: NDArray[np.int32], tokenizer: TokenizerFacts) -> Text:
    """Tokens as the vocabulary spells them, with a bar in between."""
    shown = Text()
    for number, id in enumerate(ids):
        if number:
            shown.append("|", style=FAINT)
        style = SPECIAL if int(id) in tokenizer.special_ids else SHADES[number % 2]
        shown.append(printable(decode.id_to_token(int(id)) or f"<{id}?>", ""), style=style)
    return shown


def printable(text: str, kept: str) -> str:
    """Text with characters that a terminal acts on written as escapes, but for those `kept`."""
    return "".join(
        character if character.isprintable() or character in kept
        else character.encode("unicode_escape").decode()
        for character in text
    )  # fmt: skip
