"""The contract that every operation on labelled rows keeps, whoever wrote it."""

import copy
import inspect
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch

from finetune.augmentation import augmenting
from finetune.augmentation.augmenting import AUGMENTATIONS, Augmentation
from finetune.ner import tagged_text, words
from finetune.ner.tagged_text import Sentence
from finetune.ner.tags import Span
from finetune.texts.labelled_text import Row
from runtime import plugins
from tests.finetune.augment.conftest import params_of, task_of

NAMES = plugins.names(AUGMENTATIONS)
TAGGED = [
    tagged_text.from_words([], [], 1),
    tagged_text.from_words(["ada"], [Span(0, 1, "PER")], 2),
    tagged_text.from_words(["ada", "met", "bob", "."], [Span(0, 1, "PER"), Span(2, 3, "PER")], 3),
    tagged_text.from_words(
        ["ada", "met", "dan", "in", "new", "york", "today"],
        [Span(0, 1, "PER"), Span(2, 3, "PER"), Span(4, 6, "LOC")],
        4,
    ),
    tagged_text.from_text("  Ada visited New York-Oslo\ttoday, (\u200b good).\n", [], 5),
    tagged_text.from_text("Bob's film was good. It was in Oslo.", [Span(0, 1, "PER")], 6),
    tagged_text.from_text("京北 在 北京。", [Span(0, 2, "PER"), Span(3, 5, "LOC")], 7),
    tagged_text.from_text("[MASK] met </s> <PER> e\u0301 😀 <pad>", [], 8),
    replace(tagged_text.from_words(["met", "the", "film"], [], 9), document=3, place=2),
]
TEXTS = [
    "", " ", "\n\n", "word", "the film was good", "the film was not good. bad film", "北京good",
    "a bad bad film, with new\tparis  in [MASK] </s> <pad> &amp; ||| <PER>", "e\u0301 😀",
    "  leading. trailing  ", "العربية من اليمين",
]  # fmt: skip
SINGLE = [
    Row((text,), label, i) for i, text in enumerate(TEXTS) for label in ("positive", "negative")
]
PAIRS = [
    Row((a, b), label, i)
    for i, (a, b, label) in enumerate(
        [("the film", "a film", "1"), ("a film", "new film", "1"), ("bad film", "ada", "0"),
         ("", "北京", "0"), ("the film", "oslo today", "0"), ("rome", "rome", "1")]
    )
]  # fmt: skip


@pytest.fixture(scope="module")
def fields(tmp_path_factory: pytest.TempPathFactory, folders: dict[str, Path]) -> dict[str, Any]:
    """Tables to try an operation with, beside its defaults; a new one may need an entry."""
    folder = tmp_path_factory.mktemp("files")
    synonyms, opposites = folder / "synonyms.tsv", folder / "opposites.tsv"
    synonyms.write_text("film\tmovie\nmet\tsaw,ran into\n北京\t京\nword\tterm\n")
    opposites.write_text("good\tbad\nbad\tgood,fine\n")
    short = {"steps": 2, "max_tokens": 12}
    return {
        "synonym": [{"lexicon": synonyms, "in_mentions": True}],
        "eda": [{"lexicon": synonyms}],
        "contextual": [{"rate": 0.5}, {"in_mentions": True, "top_k": 3}],
        "masked_lm": [{"steps": 2, "learning_rate": 1e-3}],
        "causal_lm": [{"model": folders["causal"], **short, "examples": 1}],
        "back_translation": [
            {"forward": folders["marian"], "backward": folders["t5"], "max_tokens": 24}
        ],
        "sentiment_inversion": [{"lexicon": opposites}],
        "pairs": [{}, {"positive_share": 0.0, "hard_share": 1.0}],
    }


def rows_for(name: str) -> list[list[Any]]:
    """Training rows of each kind of task that an operation is for."""
    fits = plugins.find(AUGMENTATIONS, name).FITS
    if name in ("pairs", "sentiment_inversion"):
        return [PAIRS if name == "pairs" else SINGLE]
    found: list[list[Any]] = [TAGGED] if "token" in fits else []
    return [*found, SINGLE, PAIRS] if "sequence" in fits else found


CASES = [(name, i) for name in NAMES for i in range(len(rows_for(name)))]


@pytest.mark.parametrize("name", NAMES)
def test_parts(name: str) -> None:
    module = plugins.find(AUGMENTATIONS, name)
    assert module.__doc__
    assert issubclass(module.Params, Augmentation)
    assert module.Params.__doc__
    assert module.Params.model_fields["kind"].default == name
    assert module.FITS
    assert set(module.FITS) <= {"token", "sequence"}
    assert list(inspect.signature(module.prepare).parameters) == ["train", "task", "params"]
    assert list(inspect.signature(module.augment).parameters) == [
        "row", "resources", "params", "rng",
    ]  # fmt: skip


@pytest.mark.parametrize(("name", "case"), CASES)
def test_contract(name: str, case: int, fields: dict[str, Any], encoder_folder: Path) -> None:
    module = plugins.find(AUGMENTATIONS, name)
    train = rows_for(name)[case]
    before = copy.deepcopy(train)
    for table in fields.get(name, [{}]):
        params = params_of(name, **table)
        task = task_of(params, encoder=encoder_folder, is_tagged=train is TAGGED)
        torch.manual_seed(5)
        state = torch.get_rng_state()
        threads = torch.get_num_threads()
        resources = module.prepare(train, task, params)
        found = [
            list(module.augment(row, resources, params, Random(i))) for i, row in enumerate(train)
        ]
        assert torch.equal(torch.get_rng_state(), state)
        assert torch.get_num_threads() == threads
        assert train == before
        again = module.prepare(train, task, params)  # alone, and in another order
        for i in reversed(range(len(train))):
            assert list(module.augment(train[i], again, params, Random(i))) == found[i]
        for row, copies in zip(train, found, strict=True):
            for new in copies:
                check(row, new, train)
        changed = sum(
            new != row for row, copies in zip(train, found, strict=True) for new in copies
        )
        wants = name not in ("causal_lm", "back_translation")  # random models write no rows
        assert changed >= wants


def check(row: Any, new: Any, train: list[Any]) -> None:
    assert type(new) is type(row)
    if isinstance(new, Sentence):
        assert new.words == tuple(new.text[a:b] for a, b in new.offsets)
        assert all(word and not any(map(str.isspace, word)) for word in new.words)
        assert (new.line, new.document, new.place) == (row.line, row.document, row.place)
        ends = [0, *(place for entity in new.entities for place in (entity.start, entity.end))]
        assert ends == sorted(ends)
        assert ends[-1] <= len(new.words)
        assert all(entity.start < entity.end for entity in new.entities)
        assert {entity.type for entity in new.entities} <= {"PER", "LOC"}
        assert (new == row) or words_like(row, new)
    else:
        assert len(new.texts) == len(row.texts)
        assert new.label in {other.label for other in train}
        assert new.line == row.line
    text = new.text if isinstance(new, Sentence) else "".join(new.texts)
    text.encode("utf-8")
    assert "\ufffd" not in text
    known = "".join(
        other.text if isinstance(other, Sentence) else "".join(other.texts) for other in train
    )
    for special in ("[CLS]", "[SEP]", "[PAD]", "[UNK]", "B-PER", "I-LOC"):
        assert special in known or special not in text


def words_like(row: Sentence, new: Sentence) -> bool:
    """A sentence read from a text has the words that reading gives."""
    if words.join(row.words)[0] == row.text:
        return words.join(new.words)[0] == new.text
    return list(new.offsets) == words.split(new.text)


@pytest.mark.parametrize("name", NAMES)
def test_rows_do_not_depend_on_the_call(
    name: str, fields: dict[str, Any], encoder_folder: Path
) -> None:
    train = rows_for(name)[0]
    params = params_of(name, copies=2, share=0.7, **fields.get(name, [{}])[0])
    task = task_of(params, encoder=encoder_folder, is_tagged=train is TAGGED)
    together, _ = augmenting.made(train, task, 0, 3, range(len(train)))
    halves = [augmenting.made(train, task, 0, 3, range(i, len(train), 2))[0] for i in (1, 0)]
    key = lambda found: (found.origin, repr(found.row))  # noqa: E731
    assert sorted(together, key=key) == sorted([*halves[0], *halves[1]], key=key)


@pytest.mark.parametrize("name", NAMES)
def test_files_that_matter_exist(name: str, fields: dict[str, Any]) -> None:
    for table in fields.get(name, [{}]):
        if name not in ("synonym", "eda") or "lexicon" in table:
            found = augmenting.inputs([params_of(name, **table)])
            named = [value for value in table.values() if isinstance(value, Path)]
            assert bool(found) == bool(named)
            for path in named:
                assert any(path in (file, file.parent) for file in found)


def test_looking_operations_up_needs_no_torch() -> None:
    lines = [f"import {AUGMENTATIONS}.{name}" for name in NAMES]
    lines += ["import sys", "print(sorted({'torch', 'transformers'} & set(sys.modules)))"]
    done = subprocess.run([sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr or done.stdout
