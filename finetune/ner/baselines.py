"""Tags by predictors that need no model."""

from collections import Counter, defaultdict
from collections.abc import Sequence

from finetune.ner import tags
from finetune.ner.tagged_text import Sentence


def guesses(train: Sequence[Sentence], rows: Sequence[Sentence]) -> dict[str, list[list[str]]]:
    """`majority`: the most frequent tag of the training rows everywhere; `lookup`: each word's most
    frequent tag there. As valid IOB2."""
    by_word: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for row in train:
        for word, tag in zip(row.words, row.tags, strict=True):
            by_word[word][tag] += 1
    overall = sum(by_word.values(), Counter[str]())
    most = most_frequent(overall)
    lookup = {word: most_frequent(seen) for word, seen in by_word.items()}
    found = {
        "majority": [[most] * len(row.words) for row in rows],
        "lookup": [[lookup.get(word, most) for word in row.words] for row in rows],
    }
    return {
        name: [tags.iob2(tags.spans(row), len(row)) for row in guess]
        for name, guess in found.items()
    }


def most_frequent(seen: Counter[str]) -> str:
    return max(sorted(seen), key=lambda tag: seen[tag])
