"""Keep the texts of named evaluation sets out of the corpus, and count how many were found.

The rule is that of GPT-3 (Brown et al. 2020, appendix C): a document that shares 13 words in a row
with an example of a set is contaminated by it. An example of fewer words must occur as a whole; one
of fewer than `min_words`, which would match by chance, only as a whole document. Their rule that an
n-gram found in more than ten documents is no match is left out: it needs the whole corpus at once,
and the samples kept of every reason show what matched.

A named set is read by the readers of `[sources]`; the recipe's name of a set is the name of the
task that is tested on it (`NAME.valid` for the task's validation rows), which is how fine-tuning
finds the count it prints beside a score. Units are counted apart and merged: `facts`.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Any, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from data_prep import units
from data_prep.documents import SAMPLE_CHARACTERS, Document, Reject
from data_prep.ngrams import NGrams
from data_prep.sources import AnySource, InputFile, Source, SourceName
from data_prep.words import words_of
from runtime.config import Positive
from runtime.errors import DataError
from runtime.recipe import RecipeTable

ONE_FILE_WORDS = 1000  # a single example longer than this is a file that was not taken apart


class Decontaminate(RecipeTable):
    """Which evaluation sets must not be trained on, and what counts as containing one."""

    sets: dict[SourceName, AnySource] = Field(default={})  # by task; tables like those of [sources]
    ngram: Positive = 13  # words in a row that an example and a document may not share
    min_words: Positive = 8  # shorter examples match only documents of the very same words
    # drop: leave out documents that hold an example; report: keep them and count
    action: Literal["drop", "report"] = "drop"

    @model_validator(mode="after")
    def lengths_fit(self) -> Self:
        if self.min_words > self.ngram:
            raise ValueError(f"min_words ({self.min_words}) must not exceed ngram ({self.ngram})")
        return self


class Index:
    """The n-grams of all sets of a table; examples are numbered through, sets in recipe order."""

    def __init__(self, table: Decontaminate) -> None:
        """Read the sets. Raises DataError if an example cannot be read."""
        self.names = list(table.sets)
        self.sizes: list[int] = []
        self.grams = NGrams(self.words_of_sets(table), table.ngram, table.min_words)
        self.begins = np.cumsum([0, *self.sizes])
        is_short = np.split(self.grams.lengths < table.min_words, self.begins[1:-1])
        self.short = [int(part.sum()) for part in is_short]

    def words_of_sets(self, table: Decontaminate) -> Iterator[list[str]]:
        for name, params in table.sets.items():
            count, longest = 0, 0
            for words in examples(name, params):
                count, longest = count + 1, max(longest, len(words))
                yield words
            if not count:
                raise DataError(f"decontaminate.sets.{name} holds no example; check its path")
            if count == 1 and longest > ONE_FILE_WORDS:
                raise DataError(
                    f"decontaminate.sets.{name} is read as one example of {longest:,} words; say "
                    'what an example is: sentences_per_document = 1 (conll), document = "line" '
                    "or another reader"
                )
            self.sizes.append(count)

    def by_set(self, numbers: Iterable[int]) -> dict[str, list[int]]:
        """Numbers of examples as numbers within their sets."""
        found = np.array(sorted(numbers), np.int64)
        places = np.searchsorted(found, self.begins)
        return {
            name: (found[places[i] : places[i + 1]] - self.begins[i]).tolist()
            for i, name in enumerate(self.names)
        }


def examples(name: str, params: Source) -> Iterator[list[str]]:
    """The words of each example of a set, in input order."""
    try:
        for unit in units.units_of(name, params):
            for found in units.read(unit, params):
                if isinstance(found, Reject):
                    raise DataError(
                        f"example {found.id} cannot be read ({found.reason}: "
                        f"{found.sample[:80]!r}); a set must be whole"
                    )
                yield words_of(found.text)
    except DataError as error:
        raise DataError(f"decontaminate.sets.{name}: {error}") from None


@lru_cache(maxsize=1)
def index_of(table_json: str) -> Index:
    """The index of a table, built once in a process."""
    return Index(Decontaminate.model_validate_json(table_json))


class Decontaminator:
    """Checks the documents of one unit and remembers what was found in them."""

    def __init__(self, table: Decontaminate) -> None:
        """Raises DataError if a set cannot be read."""
        self.table = table
        self.index = index_of(table.model_dump_json())
        self.grams: set[int] = set()
        self.documents: Counter[str] = Counter()

    def check(self, document: Document) -> Reject | None:
        """A reject named after the first set that the document holds an example of."""
        grams = self.index.grams.find(document.words)
        if not grams:
            return None
        self.grams.update(grams)
        found = self.index.by_set(self.index.grams.texts_with(grams))
        names = [name for name, numbers in found.items() if numbers]
        self.documents.update(names)
        if self.table.action == "report":
            return None
        # The words that matched are what a person needs to judge the match.
        sample = " ".join(self.index.grams.spell(grams[0]))[:SAMPLE_CHARACTERS]
        return Reject(document.id, f"contaminated: {names[0]}", sample)

    def journal(self) -> dict[str, Any]:
        """What the unit's documents held, by set: the numbers of the examples found."""
        found = self.index.by_set(self.index.grams.texts_with(self.grams))
        return {
            name: {
                "action": self.table.action,
                "ngram": self.table.ngram,
                "min_words": self.table.min_words,
                "examples": size,
                "examples_short": short,
                "found": found[name],
                "documents": self.documents[name],
            }
            for name, size, short in zip(
                self.index.names, self.index.sizes, self.index.short, strict=True
            )
        }


def decontaminator(table: Decontaminate) -> Decontaminator | None:
    """A checker for one unit; None if there is no set to look for."""
    return Decontaminator(table) if table.sets else None


def inputs(table: Decontaminate) -> list[InputFile]:
    """The files of all sets. Raises DataError naming the set."""
    found: list[InputFile] = []
    for name, params in table.sets.items():
        try:
            found += units.reader(params).inputs(params)
        except DataError as error:
            raise DataError(f"decontaminate.sets.{name}: {error}") from None
    return found


def facts(journals: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """The manifest's `decontamination`: the journals of all units as one, by set.

    `examples_short` are those of fewer than `min_words`; `documents` those that held an example,
    under "drop" all dropped; `examples_left` the examples in what is trained on.
    """
    examples: dict[str, set[int]] = {}
    merged: dict[str, dict[str, Any]] = {}
    for journal in journals:
        for name, entry in journal.items():
            examples.setdefault(name, set()).update(entry["found"])
            own = {key: value for key, value in entry.items() if key != "found"}
            documents = merged.get(name, {}).get("documents", 0) + entry["documents"]
            merged[name] = own | {"documents": documents}
    for name, entry in merged.items():
        is_dropped = entry["action"] == "drop"
        num_found = len(examples[name])
        entry["examples_found"] = num_found
        entry["examples_left"] = 0 if is_dropped else num_found
        entry["documents_dropped"] = entry["documents"] if is_dropped else 0
    return merged


def combined(
    first: Mapping[str, Any] | None, second: Mapping[str, Any] | None
) -> dict[str, Any] | None:
    """The facts of a model trained on two corpora, one after the other; None if one is unknown.

    A set counts only where both corpora were searched for the same number of examples. Which ones
    were found is not known any more, so the sums are upper bounds.
    """
    if first is None or second is None:
        return None
    found = {}
    for name in first:
        if name not in second or first[name]["examples"] != second[name]["examples"]:
            continue
        entry = dict(first[name])
        for key in ("examples_found", "examples_left"):
            entry[key] = min(entry["examples"], entry[key] + second[name][key])
        for key in ("documents", "documents_dropped"):
            entry[key] += second[name][key]
        found[name] = entry
    return found
