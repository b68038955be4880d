"""Planted examples of evaluation sets are found, everything else stays, and counts add up."""

import csv
import json
import os
from pathlib import Path
from typing import Any

import pytest

from data_prep import decontamination
from data_prep.decontamination import Decontaminate, combined, decontaminator, facts
from data_prep.documents import Document, Reject
from data_prep.ngrams import NGrams, plain_words
from runtime.errors import DataError

LONG = "the quick brown fox jumps over the lazy dog and then it sleeps all day long"  # 16 words
MIDDLE = "a sentence of exactly nine words is still searched"  # 9 words
SHORT = "where is my card"


def table(folder: Path, examples: dict[str, list[str]], **fields: Any) -> Decontaminate:
    sets = {}
    for name, texts in examples.items():
        path = folder / f"{name}.jsonl"
        path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
        sets[name] = {"reader": "jsonl", "path": str(path)}
    return Decontaminate.model_validate_json(json.dumps({"sets": sets, **fields}))


def document(text: str) -> Document:
    return Document("d", text, "source", "domain")


def reason(wanted: Decontaminate, text: str) -> str | None:
    checker = decontaminator(wanted)
    assert checker is not None
    found = checker.check(document(text))
    return None if found is None else found.reason


def test_words_are_compared_without_case_punctuation_and_tokenisation() -> None:
    assert plain_words(["5-HT,", "(Tom's)", "--", "naïve", "２０２０", "“quoted”"]) == [
        "5", "ht", "tom", "s", "naïve", "2020", "quoted"
    ]  # fmt: skip
    assert plain_words(["5", "-", "HT", ","]) == ["5", "ht"]
    assert plain_words(["हिन्दी।", "exam\u00adple", "😀"]) == ["हिन्दी", "example"]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (f"Before it. {LONG}. After it.", True),
        # the first 13 words, in other case and with other punctuation
        ("x The QUICK, brown fox -- jumps over the lazy dog; and then it SLEEPS.", True),
        ("the quick brown fox jumps over the lazy dog and then it", False),  # 12 words
        ("the quick brown fox jumps over the lazy cat and then it sleeps all day long", False),
        (f"Well, {MIDDLE}!", True),
        ("a sentence of exactly nine words is still found", False),
        (SHORT, True),  # too short to be searched for: only as a whole document
        ("Where is my card?!", True),
        (f"{SHORT} and my purse", False),
        ("", False),
        ("?!", False),
    ],
)
def test_what_counts_as_a_match(tmp_path: Path, text: str, wanted: bool) -> None:
    found = reason(table(tmp_path, {"ask": [LONG, MIDDLE, SHORT, "?"]}), text)
    assert found == ("contaminated: ask" if wanted else None)


def test_unspaced_scripts_count_characters(tmp_path: Path) -> None:
    wanted = table(tmp_path, {"zh": ["蚂蚁借呗等额还款可以换成先息后本吗"]})
    assert reason(wanted, "他问：蚂蚁借呗，等额还款可以换成先息后本吗？") == "contaminated: zh"
    assert reason(wanted, "蚂蚁借呗等额还款可以换成吗") is None


def test_a_match_is_found_anywhere_in_a_long_document(tmp_path: Path) -> None:
    wanted = table(tmp_path, {"ask": [LONG, MIDDLE]})
    size = 1 << 15  # a document is searched in pieces of this many words
    for before in (0, size - 20, size - 13, size - 12, size - 1, size, size + 1, 2 * size):
        for example in (LONG, MIDDLE):
            text = f"{'word ' * before}{example}{' end' * 30}"
            assert reason(wanted, text) == "contaminated: ask", before
            assert reason(wanted, f"{'word ' * before}{example}") == "contaminated: ask", before


def test_equal_hashes_are_no_match(monkeypatch: pytest.MonkeyPatch) -> None:
    grams = NGrams([LONG.split(), MIDDLE.split()], 13, 8)
    grams.values[:] = 1  # now all windows of a length have the same hash
    grams.index()
    assert grams.texts_with(grams.find(LONG.split())) == [0]
    assert grams.texts_with(grams.find(["x", *MIDDLE.split()])) == [1]
    assert grams.find(LONG.replace("lazy", "busy").split()) == []


def test_units_are_merged_without_counting_an_example_twice(tmp_path: Path) -> None:
    both = "one two three four five six seven eight nine ten eleven twelve thirteen"
    wanted = table(tmp_path, {"first": [LONG, both, SHORT], "second": ["no", both, MIDDLE]})
    journals = []
    for texts in ([f"a {LONG}", f"b {LONG}", "clean"], [f"c {both}", MIDDLE], ["clean"]):
        checker = decontaminator(wanted)
        assert checker is not None
        found = [checker.check(document(text)) for text in texts]
        assert all(isinstance(one, Reject) for one in found[: 2 if len(texts) > 1 else 0])
        journals.append(checker.journal())
    assert [journal["first"]["found"] for journal in journals] == [[0], [1], []]
    shared = {"action": "drop", "ngram": 13, "min_words": 8, "examples": 3, "examples_left": 0}
    assert facts(json.loads(json.dumps(journals))) == {
        "first": shared
        | {"examples_short": 1, "examples_found": 2, "documents": 3, "documents_dropped": 3},
        "second": shared
        | {"examples_short": 1, "examples_found": 2, "documents": 2, "documents_dropped": 2},
    }
    assert facts(reversed(journals)) == facts(journals)


def test_reporting_keeps_documents_and_says_what_is_left(tmp_path: Path) -> None:
    checker = decontaminator(table(tmp_path, {"ask": [LONG, MIDDLE]}, action="report"))
    assert checker is not None
    assert checker.check(document(LONG)) is None
    entry = facts([checker.journal()])["ask"]
    assert (entry["examples_found"], entry["examples_left"]) == (1, 1)
    assert (entry["documents"], entry["documents_dropped"]) == (1, 0)


def test_the_reject_shows_what_matched(tmp_path: Path) -> None:
    checker = decontaminator(table(tmp_path, {"ask": [LONG]}))
    assert checker is not None
    found = checker.check(document(f"A long story. {LONG.upper()}"))
    assert found == Reject("d", "contaminated: ask", " ".join(LONG.split()[:13]))


def test_without_sets_there_is_nothing_to_check() -> None:
    assert decontaminator(Decontaminate()) is None
    assert decontamination.inputs(Decontaminate()) == []
    assert facts([]) == {}


def test_a_set_must_be_whole(tmp_path: Path) -> None:
    wanted = table(tmp_path, {"ask": [LONG]})
    assert [Path(file.path).name for file in decontamination.inputs(wanted)] == ["ask.jsonl"]
    (tmp_path / "ask.jsonl").write_text('{"text": "fine"}\n{"tekst": 1}\n')
    with pytest.raises(DataError, match=r"decontaminate\.sets\.ask: example .*text field miss"):
        decontaminator(wanted.model_copy(update={"ngram": 12}))
    (tmp_path / "ask.jsonl").write_text("")
    with pytest.raises(DataError, match="holds no example"):
        decontaminator(wanted.model_copy(update={"ngram": 11}))
    (tmp_path / "ask.jsonl").write_text(json.dumps({"text": "word " * 1001}))
    with pytest.raises(DataError, match=r"one example of 1,001 words; say what an example is"):
        decontaminator(wanted.model_copy(update={"ngram": 10}))
    (tmp_path / "ask.jsonl").unlink()
    with pytest.raises(DataError, match=r"decontaminate\.sets\.ask: no file"):
        decontamination.inputs(wanted)


def test_a_conll_set_is_searched_by_sentence(tmp_path: Path) -> None:
    sentence = [*MIDDLE.replace("still", "still ,").split(), "."]
    lines = "".join(f"{word}\tO\n" for word in sentence) + "\nA\tO\nplace\tO\n"
    (tmp_path / "test.conll").write_text(lines)
    ner = {"reader": "conll", "path": str(tmp_path / "test.conll"), "sentences_per_document": 1}
    wanted = Decontaminate.model_validate_json(json.dumps({"sets": {"ner": ner}}))
    assert reason(wanted, f"Untokenised: {MIDDLE}.") == "contaminated: ner"
    checker = decontaminator(wanted)
    assert checker is not None
    assert checker.journal()["ner"]["examples"] == 2


def test_min_words_may_not_exceed_the_ngram() -> None:
    with pytest.raises(ValueError, match=r"min_words \(14\) must not exceed ngram \(13\)"):
        Decontaminate(min_words=14)


def entry(examples: int, found: int) -> dict[str, Any]:
    return {
        "examples": examples, "examples_found": found, "examples_left": found,
        "documents": found, "documents_dropped": 0,
    }  # fmt: skip


def test_facts_of_two_corpora_are_upper_bounds_and_never_guesses() -> None:
    first = {"a": entry(10, 7), "b": entry(5, 0), "c": entry(4, 1)}
    second = {"a": entry(10, 6), "b": entry(6, 0)}
    assert combined(first, second) == {"a": entry(10, 10) | {"documents": 13}}
    assert combined(first, None) is None
    assert combined(None, second) is None


def test_planted_examples_of_real_sets_are_found_and_real_text_stays(root: Path) -> None:
    """Banking77 questions in the middle of WNUT-17 tweets' text, and the tweets alone."""
    data = Path(os.environ.get("TEXTMILL_DATA", root.parent / "shared" / "data")) / "tasks"
    if not data.is_dir():
        pytest.skip(f"{data} is not here; set TEXTMILL_DATA to a folder that holds tasks/")
    with (data / "banking77" / "test.csv").open(encoding="utf-8") as file:
        questions = [row["text"] for row in csv.DictReader(file)]
    lines = (data / "wnut17" / "wnut17train.conll").read_text(encoding="utf-8").split("\n")
    tweets = " ".join(line.split("\t")[0] for line in lines)
    tweet_words = tweets.split()
    grams = NGrams([question.split() for question in questions], 13, 8)
    for number, question in enumerate(questions):
        around = tweet_words[number * 10 : number * 10 + 40]
        if grams.lengths[number] >= 8:
            text = " ".join([*around[:20], question.upper(), *around[20:]])
            assert number in grams.texts_with(grams.find(text.split()))
        assert grams.find(around) == []
    assert grams.find(tweet_words) == []
