"""One encoder under several heads: nothing twice, nothing mixed up, every export complete."""

import math
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoModelForTokenClassification

from finetune.multitask.objective import Together, build, parameters_of, prefix, whole
from finetune.multitask.prepare import Several, prepare
from finetune.multitask.progress import Noted
from tests.finetune.conftest import write_encoder
from tests.finetune.multitask.conftest import loaded

CLASSES = {
    "people": AutoModelForTokenClassification,
    "reviews": AutoModelForSequenceClassification,
}


def test_the_encoder_exists_once(together: Together) -> None:
    names = [name for name, _ in together.named_parameters()]
    layers = [name for name in names if "encoder.layer.0.attention.self.query.weight" in name]
    assert layers == [f"{prefix('people')}model.bert.encoder.layer.0.attention.self.query.weight"]
    mine = [name for name in names if name.startswith(prefix("reviews"))]
    assert sorted(name.removeprefix(f"{prefix('reviews')}model.") for name in mine) == [
        "bert.pooler.dense.bias",
        "bert.pooler.dense.weight",
        "classifier.bias",
        "classifier.weight",
    ]


def test_a_step_of_one_task_moves_the_encoder_of_the_other(
    together: Together, several: Several
) -> None:
    together.eval()
    reviews = together.part("reviews")
    inputs = reviews.inputs(several.tasks[1].encoded["valid"].windows[:3])
    before = together(**inputs)[1]
    with torch.no_grad():
        together.part("people").model.bert.encoder.layer[0].output.dense.bias[3] += 5.0
    assert not torch.allclose(before, together(**inputs)[1], atol=1e-3)


@pytest.mark.parametrize("name", ["people", "reviews"])
@pytest.mark.parametrize("is_packed", [True, False])
def test_an_exported_model_says_what_the_shared_one_says(
    together: Together, several: Several, tmp_path: Path, name: str, is_packed: bool
) -> None:
    together.eval()
    with torch.no_grad():
        for parameter in together.parameters():
            parameter.add_(0.01 * torch.randn_like(parameter))
    part = together.part(name)
    assert part.is_packed
    for each in several.names:
        together.part(each).pack(is_packed)
    task = next(task for task in several.tasks if task.name == name)
    windows = task.encoded["valid"].windows[:2]
    expected = together(**part.inputs(windows))[1]
    state = parameters_of(together, name, dict(together.named_parameters()))
    with whole(part.model), part.exported(state) as found:
        assert found is not None
        assert set(found) == {key for key, _ in part.model.named_parameters()}
        part.model.save_pretrained(tmp_path / "export", state_dict=found)
    alone = CLASSES[name].from_pretrained(tmp_path / "export").eval()
    for number, window in enumerate(windows):
        logits = alone(input_ids=torch.from_numpy(window.input_ids.astype("int64"))[None]).logits
        first = sum(len(each.positions) for each in windows[:number])
        mine = expected[first : first + len(window.positions)]
        wanted = logits[0, window.positions] if name == "people" else logits
        assert torch.allclose(mine, wanted, atol=1e-5)
    names = [key for key, _ in together.named_parameters()]
    assert len(names) == len(set(names))  # what was borrowed for the export is given back
    assert not any(key.startswith(f"{prefix('reviews')}model.bert.enc") for key in names)


@pytest.mark.parametrize("architecture", ["modernbert", "roberta"])
def test_other_encoders_are_shared_and_exported_whole(
    folder: Path, tmp_path: Path, architecture: str
) -> None:
    write_encoder(tmp_path / architecture, architecture)
    several = prepare(loaded(folder, f'multitask.both.encoder="{architecture}"'), "both")
    together = build(several, Noted()).eval()
    count = sum("query" in name or "Wqkv" in name for name, _ in together.named_parameters())
    assert count in (2, 4)  # two layers, once (weights, or weights and biases)
    for task in several.tasks:
        part, window = together.part(task.name), task.encoded["valid"].windows[0]
        assert part.is_packed
        mine = together(**part.inputs([window]))[1]
        state = parameters_of(together, task.name, dict(together.named_parameters()))
        with whole(part.model), part.exported(state) as found:
            part.model.save_pretrained(tmp_path / task.name, state_dict=found)
        alone = CLASSES[task.name].from_pretrained(tmp_path / task.name).eval()
        logits = alone(input_ids=torch.from_numpy(window.input_ids.astype("int64"))[None]).logits
        wanted = logits[0, window.positions] if task.name == "people" else logits
        assert torch.allclose(mine, wanted, atol=1e-5)


def test_touching_gives_the_other_heads_gradients_of_zero(
    together: Together, several: Several
) -> None:
    """And nothing to the encoder that it has not; the loss stays what it is."""
    inputs = together.part("reviews").inputs(several.tasks[1].encoded["train"].windows[:4])
    inputs |= {"scale": torch.tensor(1.0), "count": torch.tensor(4.0)}
    plain = together(**inputs)[0]
    plain.backward()
    untouched = {name for name, p in together.named_parameters() if p.grad is None}
    own = ("model.classifier.weight", "model.classifier.bias")
    own += tuple(f"loss.chain.{part}" for part in ("start", "between", "end"))
    assert untouched == {prefix("people") + name for name in own}
    wanted = {name: p.grad for name, p in together.named_parameters() if p.grad is not None}
    together.zero_grad()
    loss = together(**inputs, touches_all=True)[0]
    assert loss.item() == plain.item()
    loss.backward()
    for name, parameter in together.named_parameters():
        assert parameter.grad is not None
        assert torch.equal(parameter.grad, wanted.get(name, torch.zeros_like(parameter)))
    assert not any("forward" in vars(module) for module in together.modules())


def test_losses_are_divided_by_their_norms_and_scaled(together: Together, several: Several) -> None:
    """Reviews have two labels: ln 2."""
    assert several.norms[1] == pytest.approx(math.log(2))
    windows = several.tasks[1].encoded["train"].windows[:4]
    inputs = together.part("reviews").inputs(windows)
    together.eval()
    plain = together(**inputs)[0]
    together.train()
    found = together(**inputs, scale=torch.tensor(3.0), count=torch.tensor(4.0))[0]
    assert found.item() == pytest.approx(3 * plain.item() / math.log(2), rel=1e-5)
    assert [(task, count.item()) for task, _, count in together.noted.losses] == [(1, 4.0)]
    assert together.noted.losses[0][1].item() == pytest.approx(plain.item(), rel=1e-5)


def test_trained_log_variances_weigh_as_kendall_writes(folder: Path) -> None:
    """Of four targets: 0.5 exp(-s) l + 4 s / 2, s = 0.6; its derivative 2 - 0.5 exp(-s) l."""
    several = prepare(loaded(folder, 'multitask.both.weighting="uncertainty"'), "both")
    together = build(several, Noted()).train()
    assert together.factors == [1.0, 0.5]
    inputs = together.part("reviews").inputs(several.tasks[1].encoded["train"].windows[:4])
    with torch.no_grad():
        together.log_variances[1] = 0.6
    one = torch.tensor(1.0)
    loss = together(**inputs, scale=one, count=torch.tensor(4.0))[0]
    normed = together.noted.losses[0][1].item() / math.log(2)
    assert loss.item() == pytest.approx(0.5 * math.exp(-0.6) * normed + 1.2, rel=1e-5)
    loss.backward()
    expected = [0.0, 2 - 0.5 * math.exp(-0.6) * normed]
    assert together.log_variances.grad is not None
    assert together.log_variances.grad.tolist() == pytest.approx(expected, rel=1e-5)
