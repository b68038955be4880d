"""What the operations with a language model make; the models are tiny, trained here."""

import copy
from collections import Counter
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models, pre_tokenizers

from data_prep import local_models
from finetune.augment import back_translation, causal_lm, masked_lm
from finetune.augmentation import adaptation, edits, label_conditioning, masked_words
from finetune.augmentation.label_conditioning import Item
from finetune.ner import tagged_text
from finetune.ner.tags import Span
from finetune.texts.labelled_text import Row
from runtime.errors import DataError
from tests.data_prep import tiny_models
from tests.finetune.augment.conftest import copies_of, params_of, task_of
from tests.finetune.conftest import SPECIALS, template, trained

ADA = tagged_text.from_words(
    ["ada", "met", "new", "york", "today", "."], [Span(0, 1, "PER"), Span(2, 4, "LOC")], 1
)
PEOPLE = {"ada", "bob", "carla", "dan"}


@pytest.fixture(scope="module")
def taught(
    sentences: list[Any], encoder_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A masked language model that has read the sentences."""
    lm = masked_words.opened(encoder_folder)
    items = [
        Item(ids := np.concatenate(lm.runs(edits.words_of(row))), list(range(len(ids))), 0.2)
        for row in sentences
    ]
    model = copy.deepcopy(lm.model)
    own = replace(lm, model=model)

    def loss(batch: list[Item], rng: Random) -> Any:
        return label_conditioning.loss(own, batch, rng)

    adaptation.adapt(model, items, loss, steps=150, learning_rate=5e-3)
    folder = tmp_path_factory.mktemp("taught")
    for file in encoder_folder.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    model.save_pretrained(folder)
    return folder


def test_contextual_puts_in_what_the_model_expects(sentences: list[Any], taught: Path) -> None:
    given = {"model": taught, "top_k": 1, "rate": 0.01}
    made = [copies_of("contextual", sentences, ADA, seed=i, **given)[0] for i in range(20)]
    assert "ada visited new york today ." in {row.text for row in made}  # met -> visited
    assert all(row.entities == ADA.entities for row in made)
    assert all(row.words[0] == "ada" and row.words[2:4] == ("new", "york") for row in made)
    given |= {"in_mentions": True, "rate": 1.0, "top_k": 3}
    (new,) = copies_of("contextual", sentences, ADA, **given)
    assert all(a != b for a, b in zip(new.words[:5], ADA.words[:5], strict=True))
    assert new.words[0] in PEOPLE
    assert new.words[5] == "."


def test_contextual_draws_whole_words_of_the_script(encoder_folder: Path) -> None:
    lm = masked_words.opened(encoder_folder)
    words = {lm.pieces.spelled[i] for i in np.flatnonzero(lm.whole("Film"))}
    assert {"oslo", "york", "good"} <= words
    assert not words & {"film", "s", "ing", "a", ".", "北", "[MASK]", "mask", ""}
    assert {lm.pieces.spelled[i] for i in np.flatnonzero(lm.whole("北"))} == {"京"}
    parts = {lm.pieces.spelled[i] for i in np.flatnonzero(lm.part("films", is_first=False))}
    assert {"ing", "s", "z"} <= parts
    assert not parts & {"oslo", ".", "京", ""}


def test_contextual_keeps_the_case_that_the_model_does_not_know(encoder_folder: Path) -> None:
    row = Row(("VISITED Film",), "x", 1)
    (new,) = copies_of("contextual", [row], row, encoder=encoder_folder, rate=1.0)
    first, second = new.texts[0].split()
    assert first.isupper()
    assert second.istitle()
    assert {first.lower(), second.lower()} & {"visited", "film"} == set()


def test_a_long_text_is_seen_around_the_place(encoder_folder: Path) -> None:
    row = Row(("the film was good " * 100,), "x", 1)
    (new,) = copies_of("contextual", [row], row, encoder=encoder_folder, rate=0.01)
    before, after = row.texts[0].split(), new.texts[0].split()
    assert len(after) == len(before) == 400
    assert sum(a != b for a, b in zip(before, after, strict=True)) == 4
    assert masked_words.around(10, 0, 4) == (0, 4)
    assert masked_words.around(10, 5, 4) == (3, 7)
    assert masked_words.around(10, 9, 4) == (6, 10)
    assert masked_words.around(3, 2, 4) == (0, 3)


def test_an_encoder_without_a_masked_head_is_refused(tmp_path: Path, encoder_folder: Path) -> None:
    from transformers import BertModel

    row = Row(("word",), "x", 1)
    plain, renamed = tmp_path / "plain", tmp_path / "renamed"
    for folder in (plain, renamed):
        BertModel.from_pretrained(encoder_folder).save_pretrained(folder)
        for name in ("tokenizer.json", "tokenizer_config.json"):
            (folder / name).write_bytes((encoder_folder / name).read_bytes())
    with pytest.raises(DataError, match="holds no masked language model"):
        copies_of("contextual", [row], row, encoder=plain)
    config = (renamed / "config.json").read_text().replace('"BertModel"', '"BertForMaskedLM"')
    (renamed / "config.json").write_text(config)
    with pytest.raises(DataError, match=r"its weights lack cls\.predictions"):
        copies_of("contextual", [row], row, encoder=renamed)
    with pytest.raises(DataError, match="the task has no encoder yet; set `model`"):
        copies_of("contextual", [row], row)


@pytest.fixture(scope="module")
def lively(encoder_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny encoder with larger random weights, which learns in few steps to look around."""
    from transformers import AutoConfig, AutoModelForMaskedLM, set_seed

    folder = tmp_path_factory.mktemp("lively")
    for file in encoder_folder.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    set_seed(1)
    config = AutoConfig.from_pretrained(folder)
    config.initializer_range = 0.1
    AutoModelForMaskedLM.from_config(config).save_pretrained(folder)
    return folder


QUICK = {"steps": 150, "learning_rate": 5e-3, "top_k": 2}


def test_masked_lm_draws_mentions_of_their_type(lively: Path) -> None:
    """People and places stand in the same places here: only the label tells what to draw."""
    names = {"PER": ["ada", "bob", "carla", "dan"], "LOC": ["oslo", "paris", "rome", "lima"]}
    train = [
        tagged_text.from_words([a, "met", b], [Span(0, 1, one), Span(2, 3, other)], 1)
        for one, other in [("PER", "LOC"), ("LOC", "PER"), ("PER", "PER"), ("LOC", "LOC")]
        for a in names[one]
        for b in names[other]
    ]
    params = params_of("masked_lm", rate=1.0, **QUICK)
    resources = masked_lm.prepare(train, task_of(encoder=lively), params)
    made = [
        next(masked_lm.augment(row, resources, params, Random(i))) for i, row in enumerate(train)
    ]
    pairs = list(zip(train, made, strict=True))
    assert all((new.tags, new.words[1]) == (row.tags, "met") for row, new in pairs)
    drawn = [(new.words[e.start], e.type) for new in made for e in new.entities]
    assert sum(word in names[kind] for word, kind in drawn) >= 0.95 * len(drawn)
    assert len({word for word, _ in drawn}) >= 4
    assert sum(row.words != new.words for row, new in pairs) > len(train) / 2


def test_masked_lm_draws_words_of_the_label(reviews: list[Row], lively: Path) -> None:
    params = params_of("masked_lm", rate=0.01, **QUICK)
    resources = masked_lm.prepare(reviews, task_of(encoder=lively), params)
    for label, words in {"positive": {"good", "lovely"}, "negative": {"bad", "awful"}}.items():
        row = Row(("the film was play",), label, 1)  # four words, one of which is drawn
        made = [next(masked_lm.augment(row, resources, params, Random(i))) for i in range(60)]
        assert {new.label for new in made} == {label}
        last = Counter(new.texts[0].split()[-1] for new in made)
        del last["play"]
        assert last.total() >= 8
        assert sum(last[word] for word in words) >= 0.9 * last.total()


def test_masked_lm_begins_with_the_meaning_of_the_name(encoder_folder: Path) -> None:
    lm = masked_words.opened(encoder_folder)
    model, first = label_conditioning.with_labels(lm, ["B-new_york", "I-new_york"])
    vectors = model.get_input_embeddings().weight
    new, york = (lm.tokenizer.tokens([word])[0].ids[0] for word in ("new", "york"))
    wanted = (vectors[int(new)] + vectors[int(york)]) / 2
    assert np.allclose(vectors[first].detach(), wanted.detach())
    assert np.allclose(vectors[first + 1].detach(), wanted.detach())
    assert lm.model.get_input_embeddings().weight.shape[0] == first  # the one on disk is as it was


def test_masked_lm_needs_labels(encoder_folder: Path) -> None:
    plain = tagged_text.from_words(["no", "name"], [], 1)
    with pytest.raises(
        DataError, match="masked_lm needs training rows with entities, or with labe"
    ):
        copies_of("masked_lm", [plain], plain, encoder=encoder_folder)
    number = Row(("text",), 0.5, 1)
    with pytest.raises(DataError, match="masked_lm needs training rows"):
        copies_of("masked_lm", [number], number, encoder=encoder_folder)


THERE = {
    "Ada met Bob.": "Ada traf Bob.",
    "Ada met Bob .": "Ada traf Bob.",
    "She left.": "Sie ging.",
}


@pytest.fixture
def dictionary(monkeypatch: pytest.MonkeyPatch, folders: dict[str, Path]) -> dict[str, Any]:
    """Two models whose translations are looked up here."""
    back = {"Ada traf Bob.": "Bob was met by Ada.", "Sie ging.": "She went away."}
    tables = {folders["marian"]: THERE, folders["t5"]: back}

    def translate(folder: Path, texts: list[str], num_beams: int, max_tokens: int) -> list[str]:
        return [tables[folder][text] for text in texts]

    monkeypatch.setattr(local_models, "translate", translate)
    return {"forward": folders["marian"], "backward": folders["t5"], "back": back}


def test_back_translation_goes_forth_and_back(dictionary: dict[str, Any]) -> None:
    back = dictionary.pop("back")
    row = Row(("Ada met Bob.\n\nShe left.",), "x", 1)
    (new,) = copies_of("back_translation", [], row, **dictionary)
    assert new == Row(("Bob was met by Ada.\n\nShe went away.",), "x", 1)
    sentence = tagged_text.from_text("Ada met Bob.", [Span(0, 1, "PER"), Span(2, 3, "DOG")], 1)
    (new,) = copies_of("back_translation", [], sentence, **dictionary)
    assert new.text == "Bob was met by Ada."
    assert new.tags == ["B-DOG", "O", "O", "O", "B-PER", "O"]
    by_words = tagged_text.from_words(["Ada", "met", "Bob", "."], [Span(0, 1, "PER")], 1)
    (new,) = copies_of("back_translation", [], by_words, **dictionary)
    assert new.words == ("Bob", "was", "met", "by", "Ada", ".")
    for lost in ("She met Bob.", "Adam met Bob.", "Ada met Bob, Ada said.", "ada met Bob."):
        back["Ada traf Bob."] = lost
        assert copies_of("back_translation", [], sentence, **dictionary) == [sentence]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("in New York 见到York", ["New York", "York"]),
        ("York, in New York", ["York", "New York"]),
        ("New York", None),
        ("New York and Yorkshire", None),
        ("New York, York and York", None),
    ],
)
def test_mentions_inside_mentions(text: str, wanted: list[str] | None) -> None:
    row = tagged_text.from_words(
        ["New", "York", "met", "York"], [Span(0, 2, "LOC"), Span(3, 4, "PER")], 1
    )
    found = back_translation.parts_with_mentions(row, text)
    assert (found and [part for part, kind in found if kind]) == wanted


def test_back_translation_without_models(tmp_path: Path, folders: dict[str, Path]) -> None:
    with pytest.raises(DataError, match="holds no model for AutoModelForSeq2SeqLM"):
        copies_of("back_translation", [], ADA, forward=tmp_path, backward=folders["t5"])
    with pytest.raises(DataError, match=r"needs a model in .*/no, which is missing or empty"):
        back_translation.inputs(
            params_of("back_translation", forward=tmp_path / "no", backward=folders["t5"])
        )


@pytest.fixture(scope="module")
def writer_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A causal model that is large enough to learn to spell two lines."""
    from transformers import GPT2Config, GPT2LMHeadModel, set_seed

    set_seed(2)
    config = GPT2Config(
        vocab_size=len(tiny_models.byte_tokenizer()), n_positions=128, n_embd=64, n_layer=2,
        n_head=4, bos_token_id=1, eos_token_id=1,
    )  # fmt: skip
    return tiny_models.save(tmp_path_factory.mktemp("writer"), GPT2LMHeadModel(config))


FAST = {"steps": 120, "learning_rate": 5e-3, "examples": 1, "max_tokens": 40, "temperature": 0.5}


def test_causal_lm_writes_rows_of_the_label(writer_folder: Path) -> None:
    train = [
        Row((text,), label, 1)
        for text, label in [
            ("good film", "pos"), ("good play", "pos"), ("bad film", "neg"), ("bad play", "neg"),
        ]
    ]  # fmt: skip
    params = params_of("causal_lm", model=writer_folder, **FAST)
    resources = causal_lm.prepare(train, task_of(), params)
    for row in (train[0], train[2]):
        made = [next(causal_lm.augment(row, resources, params, Random(i))) for i in range(6)]
        assert {new.label for new in made} == {row.label}
        start = {"pos": "good", "neg": "bad"}[row.label]
        assert sum(new.texts[0].startswith(start) for new in made) >= 5


def test_causal_lm_writes_sentences_with_entities(writer_folder: Path) -> None:
    train = [
        tagged_text.from_words([name, "left"], [Span(0, 1, "PER")], 1) for name in ("ada", "bob")
    ]
    params = params_of("causal_lm", model=writer_folder, **FAST)
    resources = causal_lm.prepare(train, task_of(is_tagged=True), params)
    made = [next(causal_lm.augment(train[0], resources, params, Random(i))) for i in range(8)]
    whole = [new for new in made if new.words in (("ada", "left"), ("bob", "left"))]
    assert len(whole) >= 6
    assert all(new.tags == ["B-PER", "O"] for new in whole)


def test_causal_lm_gives_up_what_is_no_row(
    monkeypatch: pytest.MonkeyPatch, folders: dict[str, Path]
) -> None:
    params = params_of("causal_lm", model=folders["causal"], steps=0)
    resources = causal_lm.prepare([ADA], task_of(is_tagged=True), params)

    def made(line: str | None) -> Any:
        monkeypatch.setattr(causal_lm, "written", lambda *_: line)
        return next(causal_lm.augment(ADA, resources, params, Random(0)))

    for line in (None, "<PER>Ada left", "<DOG>Rex</DOG> left"):
        assert made(line) == ADA
    assert made("<PER>Ann Lee</PER> left.").tags == ["B-PER", "I-PER", "O"]


def test_causal_lm_prompts(folders: dict[str, Path]) -> None:
    train = [Row((text,), "a", 1) for text in ("one", "two\nlines", "three")]
    params = params_of("causal_lm", model=folders["causal"], steps=0)
    resources = causal_lm.prepare(train, task_of(), params)
    own = causal_lm.line_of(train[0])
    assert own == "a: one\n"
    found = {resources.prompt("a", own, 2, 8, Random(i)) for i in range(10)}
    assert found == {"a: two lines\na: three\na:", "a: three\na: two lines\na:"}
    assert resources.prompt("a", own, 2, 58, Random(0)) == "a:"  # 64 positions hold no more
    assert causal_lm.line_of(ADA) == "LOC, PER: <PER>ada</PER> met <LOC>new york</LOC> today .\n"
    assert causal_lm.label_of(Row(("x",), ("b", "a"), 1)) == "b, a"
    assert causal_lm.label_of(tagged_text.from_words(["x"], [], 1)) == "none"


CORPUS = [
    "the lovely film was good, and new york is in the north",
    "北京 在 中国",
    "oslo paris",
] * 9


def unigram() -> Backend:
    """A unigram tokenizer of some words, letters and endings."""
    words = [f"\u2581{word}" for word in ("lovely", "good", "north", "film", "the", "in", "oslo")]
    pieces = [*SPECIALS, *words, "ly", "ing", *"abcdefghijklmnopqrstuvwxyz\u2581北京"]
    backend = Backend(models.Unigram([(piece, -float(len(pieces))) for piece in pieces], unk_id=1))
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.post_processor = template()
    backend.add_special_tokens(SPECIALS)
    return backend


@pytest.mark.parametrize("family", ["bpe", "unigram"])
def test_other_tokenizers_give_whole_words_and_parts(family: str, tmp_path: Path) -> None:
    """Byte-level and unigram tokenizers, whose tokens carry the space before a word."""
    from transformers import BertConfig, BertForMaskedLM, PreTrainedTokenizerFast, set_seed

    backend = trained("bpe", CORPUS) if family == "bpe" else unigram()
    backend.decoder = decoders.ByteLevel() if family == "bpe" else decoders.Metaspace()
    PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]",
        sep_token="[SEP]", mask_token="[MASK]",
    ).save_pretrained(tmp_path)  # fmt: skip
    set_seed(1)
    config = BertConfig(
        vocab_size=backend.get_vocab_size(), hidden_size=16, num_hidden_layers=1,
        num_attention_heads=2, intermediate_size=16, max_position_embeddings=32, pad_token_id=0,
    )  # fmt: skip
    BertForMaskedLM(config).save_pretrained(tmp_path)
    lm = masked_words.opened(tmp_path)
    whole = {lm.pieces.spelled[i] for i in np.flatnonzero(lm.whole("film"))}
    assert whole & {"lovely", "good", "north"}
    assert all(word.isalpha() and len(word) > 1 for word in whole)
    row = tagged_text.from_words(["the", "film", "in", "oslo"], [Span(3, 4, "LOC")], 1)
    runs = lm.runs(edits.words_of(row))
    assert "".join(lm.pieces.spelled[i] for run in runs for i in run) == "thefilminoslo"
    for kind, fields in (("contextual", {}), ("masked_lm", {"steps": 1})):
        for seed in range(5):
            (new,) = copies_of(kind, [row], row, encoder=tmp_path, seed=seed, **fields)
            assert len(new.words) == 4
            assert new.tags == row.tags
            assert all(word.isalnum() for word in new.words)
