"""The contract every augmentation keeps, and examples a person can check by eye."""

import inspect
import json
import random
from pathlib import Path
from typing import Any

import pytest

from data_prep.augmenting import AUGMENTATIONS, Augment, Augmentation, augmented, inputs
from data_prep.documents import Document
from data_prep.sentences import sentences
from runtime import plugins
from runtime.errors import DataError
from tests import debian

TEXTS = [
    "",
    " ",
    "\n\n",
    "word",
    "A plain sentence. Another one! And a third, longer one?",
    "中文文本，没有空格。第二句话！第三句话在这里。",
    "العربية من اليمين إلى اليسار. جملة ثانية.",
    "emoji 😀 and combining e\u0301.  Two  spaces\tand a tab.\n\nA second paragraph.",
    "  leading space. The car is fast. The car is fast.",
    "[MASK] spells a special token </s> too. So it does.",
]


@pytest.fixture(scope="module")
def fields(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict[str, Any]]]:
    """Tables to try each augmentation with, beside its defaults; a new one may need an entry."""
    from tests.data_prep import tiny_models

    folder = tmp_path_factory.mktemp("models")
    lexicon = folder / "lexicon.tsv"
    lexicon.write_text("car\tautomobile\nplain\tsimple,bare\n文本\t文字\n第二\t其次\nجملة\tعبارة\n")
    marian = tiny_models.seq2seq(folder / "marian", "marian")
    t5 = tiny_models.seq2seq(folder / "t5", "t5")
    return {
        "synonyms": [{"lexicon": str(lexicon), "rate": 0.9}],
        "flip": [{}, {"unit": "word"}],
        "noise": [{"rate": 0.2}],
        "back_translation": [
            {"forward": str(marian), "backward": str(t5), "num_beams": 2, "max_tokens": 24}
        ],
        "synthesis": [
            {"model": str(tiny_models.causal(folder / "causal")), "max_tokens": 8},
            {"model": str(tiny_models.masked(folder / "masked")), "mask_rate": 0.3},
        ],
    }


def params_of(name: str, fields: dict[str, Any]) -> Any:
    schema = plugins.find(AUGMENTATIONS, name).Params
    return schema.model_validate_json(json.dumps({"step": name, **fields}))


@pytest.mark.parametrize("name", plugins.names(AUGMENTATIONS))
def test_contract(name: str, fields: dict[str, list[dict[str, Any]]]) -> None:
    module = plugins.find(AUGMENTATIONS, name)
    assert issubclass(module.Params, Augmentation)
    assert module.Params.__doc__
    assert list(inspect.signature(module.augment).parameters) == ["document", "params", "rng"]
    for table in fields.get(name, [{}]):
        params = params_of(name, table)
        num_new = 0
        for text in TEXTS:
            document = Document("id", text, "source", "domain", {"key": "value"})
            found = list(module.augment(document, params, random.Random(3)))
            assert document == Document("id", text, "source", "domain", {"key": "value"})
            assert found == list(module.augment(document, params, random.Random(3)))
            ids = [copy.id for copy in found]
            assert len(set(ids)) == len(ids)
            for copy in found:
                num_new += 1
                assert copy.id.startswith(f"id#{name}")
                assert copy.origin == "augmented"
                assert copy.text != text
                assert copy.text.strip()
                copy.text.encode("utf-8")
                assert (copy.source, copy.domain) == ("source", "domain")
                assert copy.metadata == {"key": "value"}
            if not text.strip():
                assert found == []
        assert num_new >= 3


def augment(name: str, text: str, seed: int = 0, **fields: Any) -> str | None:
    """The only copy, or None."""
    module = plugins.find(AUGMENTATIONS, name)
    copies = list(
        module.augment(Document("d", text, "s", "d"), params_of(name, fields), random.Random(seed))
    )
    assert len(copies) <= 1
    return copies[0].text if copies else None


def test_sentences_make_the_text_again() -> None:
    assert sentences('He said "no." Then 3.14 went.\n\nNew part\nof it. 一句。两句！') == [
        ('He said "no."', " "), ("Then 3.14 went.", "\n\n"), ("New part\nof it.", " "),
        ("一句。", ""), ("两句！", ""),
    ]  # fmt: skip
    for text in TEXTS:
        assert "".join(body + gap for body, gap in sentences(text)) == text


def test_flip() -> None:
    assert augment("flip", "One two. Three.\n\nFour!") == "Four! Three.\n\nOne two."
    assert augment("flip", "one two\nthree", unit="word") == "three two\none"
    assert augment("flip", " 一句 b", unit="word") == " b句 一"
    assert augment("flip", "the same") is None


def test_sentence_shuffle_keeps_sentences_and_gaps() -> None:
    text = "One. Two.\n\nThree. Four."
    found = {augment("sentence_shuffle", text, seed) for seed in range(60)}
    assert None in found or len(found) > 10
    for copy in found - {None}:
        assert copy is not None
        assert sorted(copy.split()) == sorted(text.split())
        assert copy.count("\n\n") == 1


def test_noise_keeps_white_space_and_number_of_words() -> None:
    text = "a bc  defg\n\n中文 hijklmnop qrstuvw xyz"
    for seed in range(200):
        copy = augment("noise", text, seed, rate=0.3) or text
        assert len(copy.split()) == len(text.split())
        assert [c for c in copy if c.isspace()] == [c for c in text if c.isspace()]
    assert augment("noise", "hello", 1, rate=1.0, kinds=["swap"]) == "elloh"
    assert augment("noise", "Bob 10", rate=1.0, kinds=["scan"]) == "8ch l0".replace("0", "O")
    assert augment("noise", "Q?", rate=1.0, kinds=["keyboard"]) == "W?"
    assert augment("noise", "hello", rate=0.0) is None


def test_synonyms_from_a_lexicon_keep_case(tmp_path: Path) -> None:
    lexicon = tmp_path / "words.tsv"
    lexicon.write_text("car\tautomobile\n北京大学\t北大\n北京\t京城\n", encoding="utf-8")
    given = {"lexicon": str(lexicon), "rate": 1.0}
    text = "Car, CAR or car: scary cars"
    wanted = "Automobile, AUTOMOBILE or automobile: scary cars"
    assert augment("synonyms", text, **given) == wanted
    assert augment("synonyms", "在北京大学，北京的car", **given) == "在北大，京城的automobile"
    assert augment("synonyms", "nothing known", **given) is None
    lexicon = tmp_path / "broken.tsv"
    lexicon.write_text("car\tautomobile\ncar automobile\n")
    with pytest.raises(DataError, match=r"broken\.tsv:2 is not `word<tab>synonym,synonym`"):
        augment("synonyms", "car", lexicon=str(lexicon))
    with pytest.raises(DataError, match="install Debian's wordnet-base"):
        augment("synonyms", "car", wordnet=str(tmp_path))


def write_wordnet(folder: Path) -> Path:
    """Four words in WordNet's own format: car has two senses, run two parts of speech."""
    licence = "  1 This software and database is provided\n"
    data = {
        "noun": [
            "{} 06 n 04 car 0 auto 0 motor_vehicle 0 Auto 1 001 @ 00000000 n 0000 | wheels  \n",
            "{} 06 n 02 car 1 railcar 0 000 | on rails  \n",
            "{} 06 n 02 run 0 tally 0 000 | a score  \n",
        ],
        "verb": ["{} 30 v 02 run 0 operate 0 000 01 + 08 00 | go  \n"],
        "adj": ["{} 00 s 02 rapid 0 fast(p) 0 000 | quick  \n"],
        "adv": [],
    }
    index = {
        "noun": "car n 2 1 @ 2 1 {0} {1}  \nrun n 1 0 1 1 {2}  \nmotor_car n 1 0 1 0 {0}  \n",
        "verb": "run v 1 0 1 1 {0}  \n",
        "adj": "rapid a 1 0 1 0 {0}  \n",
        "adv": "",
    }
    for part, lines in data.items():
        text, offsets = licence, []
        for line in lines:
            offsets.append(f"{len(text):08d}")
            text += line.format(offsets[-1])
        (folder / f"data.{part}").write_text(text)
        (folder / f"index.{part}").write_text(licence + index[part].format(*offsets))
    return folder


def test_synonyms_from_wordnet_are_those_of_the_first_sense(tmp_path: Path) -> None:
    given = {"wordnet": str(write_wordnet(tmp_path)), "rate": 1.0}
    cars = {augment("synonyms", "Car", seed, **given) for seed in range(20)}
    assert cars == {"Auto", "Motor vehicle"}
    assert augment("synonyms", "a rapid run", **given) == "a fast run"


def test_synonyms_from_the_real_wordnet() -> None:
    if not Path("/usr/share/wordnet/data.noun").is_file():
        debian.install_or_skip(["wordnet-base"])
    found = augment("synonyms", "physician", rate=1.0)
    assert found in {"doctor", "doc", "MD", "Dr.", "medico"}
    # A word of several parts of speech is left alone: to automobile is a verb too.
    assert augment("synonyms", "automobile", rate=1.0) is None


def test_back_translation_keeps_gaps_and_what_is_no_sentence(
    fields: dict[str, list[dict[str, Any]]],
) -> None:
    given = fields["back_translation"][0]
    copy = augment("back_translation", "123. One two.\n\n-- ", **given)
    assert copy is not None
    assert copy.startswith("123. ")
    assert copy.endswith("\n\n-- ")
    assert augment("back_translation", "far too long for models of 24 tokens", **given) is None
    one_by_one = given | {"batch_sentences": 1}
    text = "One. Two and three. Four!"
    assert augment("back_translation", text, **one_by_one) == augment(
        "back_translation", text, **given
    )


def test_synthesis_continues_or_refills(fields: dict[str, list[dict[str, Any]]]) -> None:
    causal, masked = fields["synthesis"]
    text = "The first sentence. The second one."
    copies = {augment("synthesis", text, seed, **causal) for seed in range(4)}
    assert len(copies) == 4
    assert all(copy and copy.startswith("The first sentence.") for copy in copies)
    assert all(copy and "second" not in copy for copy in copies)
    filled = augment("synthesis", text, 1, **masked)
    assert filled is not None
    same = sum(a == b for a, b in zip(text, filled, strict=False))
    assert same > 4
    assert augment("synthesis", text, **masked | {"mask_rate": 0.0}) is None


def test_a_folder_without_a_model_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no model"):
        augment("synthesis", "Text.", model=str(tmp_path))
    with pytest.raises(DataError, match="holds no model for AutoModelForSeq2SeqLM"):
        augment("back_translation", "Text.", forward=str(tmp_path), backward=str(tmp_path))
    table = Augment.model_validate_json(
        json.dumps({"steps": [{"step": "synthesis", "model": str(tmp_path)}]})
    )
    with pytest.raises(DataError, match="augment step synthesis: its folders hold no file"):
        inputs(table)


def test_models_do_not_touch_the_global_random_state(
    fields: dict[str, list[dict[str, Any]]],
) -> None:
    import torch

    torch.manual_seed(5)
    wanted = torch.rand(3)
    torch.manual_seed(5)
    for given in fields["synthesis"]:
        augment("synthesis", "One sentence. Another.", **given)
    assert torch.equal(torch.rand(3), wanted)


def test_copies_carry_the_step_in_their_id() -> None:
    table = Augment.model_validate_json('{"steps": [{"step": "flip"}]}')
    found = list(augmented(Document("a", "One. Two.", "s", "d"), table, 1))
    assert [(copy.id, copy.origin) for copy in found] == [("a#flip", "augmented")]
