"""Predictions of masked words as text: the same samples, the same masks, readable."""

import html
import re
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from tensorboard import plugin_util
from tokenizers import Tokenizer
from tokenizers.models import WordLevel

from data_prep.shards import Corpus
from pretrain import predictions
from pretrain.config import Model, Objective
from pretrain.masker import Masker
from pretrain.model import build
from pretrain.model.objective import MaskedLM
from pretrain.predictions import Predictions
from runtime.engine import Engine
from tests.pretrain.conftest import WORDS


class Here:
    """What predictions need of an engine."""

    def to_device(self, inputs: dict[str, Any]) -> dict[str, Any]:
        return inputs


ENGINE = cast(Engine, Here())


@pytest.fixture(scope="module")
def corpus(prepared: Path) -> Corpus:
    return Corpus(prepared / "run/data")


@pytest.fixture(scope="module")
def objective(corpus: Corpus) -> MaskedLM:
    torch.manual_seed(0)
    shape = Model(num_layers=2, hidden_size=32, num_heads=2, intermediate_size=48, dropout=0.1)
    return MaskedLM(build.build(shape, corpus, corpus.sequence_length)).train()


def of(corpus: Corpus, seed: int = 1) -> Predictions:
    return Predictions.of(Masker(corpus, Objective(), seed, first_position=0))


def test_only_the_model_changes_the_text(corpus: Corpus, objective: MaskedLM) -> None:
    """Neither the run's seed nor dropout does; the generators stay where they are."""
    before = torch.get_rng_state()
    first = of(corpus).markdown(ENGINE, objective)
    assert first == of(corpus, seed=2).markdown(ENGINE, objective)
    assert objective.training
    assert torch.equal(before, torch.get_rng_state())
    with torch.no_grad():
        for parameter in objective.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    changed = of(corpus).markdown(ENGINE, objective)
    assert changed != first
    hide = re.compile(r"←.*")
    assert hide.sub("", changed) == hide.sub("", first)


def test_every_masked_word_is_shown_with_candidates(
    corpus: Corpus, objective: MaskedLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model that knows: its first candidate is the truth, so every line has it in bold."""
    shown = of(corpus)
    assert shown.batch is not None
    truth = shown.batch.inputs["targets"][: shown.batch.num_targets]

    def knows(*_: object) -> tuple[torch.Tensor, torch.Tensor]:
        ids = torch.stack([truth, torch.full_like(truth, 9)], dim=1)
        return torch.tensor([[0.75, 0.05]]).expand(len(truth), 2), ids

    monkeypatch.setattr(predictions, "candidates", knows)
    text = shown.markdown(ENGINE, objective)
    assert text.count("### ") == len(set(shown.domains))
    assert text.count("\n> ") == len(shown.domains) == predictions.SAMPLES
    assert text.count("**[1]**") == len(shown.domains)
    answers = re.findall(r"^\d+\. (`.*`) ← \*\*(`.*`) 75 %\*\*, `.*` 5 %$", text, re.MULTILINE)
    assert len(answers) == len(truth) >= predictions.SAMPLES
    assert all(wanted == found for wanted, found in answers)
    words = set(" ".join(WORDS.values()).split())
    excerpt = re.findall(r"[a-z]{3,}", text.split("\n> ")[1].split("\n")[0])
    assert len(words.intersection(excerpt)) > 5


def test_all_masked_tokens_are_masks(corpus: Corpus) -> None:
    batch = of(corpus).batch
    assert batch is not None
    places = batch.inputs["positions"][: batch.num_targets]
    assert set(batch.inputs["input_ids"][0, places].tolist()) == {corpus.tokenizer.mask_id}


def test_text_is_no_markup() -> None:
    """As TensorBoard's own converter shows it."""
    text = "a *b* `c` \\ <script>1. | [d](e) &lt; #"
    shown = plugin_util.markdown_to_safe_html(predictions.plain(text))
    assert html.unescape(shown) == f"<p>{text}</p>"
    assert "<script" not in shown


def test_tokens_stay_on_their_line() -> None:
    tokenizer = Tokenizer(WordLevel({"a`\nb": 0, "": 1}, unk_token="a`\nb"))
    assert predictions.shown_as(0, tokenizer) == "`a'↵b`"
    assert predictions.shown_as(7, tokenizer) == "`id 7`"


def test_nothing_to_show() -> None:
    nothing = Predictions(cast(Corpus, None), [], None)
    assert nothing.markdown(ENGINE, cast(MaskedLM, None)) == ""
