"""Packed rows: the logits, the loss and the gradients of the plain model, for every class that can
be packed; the others are padded."""

from pathlib import Path

import numpy as np
import pytest
import torch

from finetune import heads
from finetune.collate import blank
from finetune.heads import Objective
from finetune.packed import steady, wants_steady_shapes
from finetune.task import Loss, Window
from tests.finetune.conftest import write_encoder

PACKED = ("bert", "roberta", "modernbert", "electra", "distilbert", "albert", "camembert")
NARROWED = ("bert", "roberta", "electra", "camembert")
PADDED = ("deberta-v2", "mpnet")
LABELS = ["a", "b", "c"]


def windows(head: str, count: int = 6) -> list[Window]:
    rng = np.random.default_rng(0)
    found = []
    for row in range(count):
        length = int(rng.integers(3, 20))
        ids = rng.integers(5, 60, length).astype(np.int32)
        scored = np.sort(rng.choice(length, size=3, replace=False)) if head == "token" else [0]
        positions = np.array(scored, dtype=np.int64)
        targets = rng.integers(0, len(LABELS), len(positions))
        found.append(Window(row, ids, None, positions, targets, np.arange(len(positions))))
    return found


def objective_of(architecture: str, head: str, folder: Path) -> Objective:
    """The objective of a tiny encoder without dropout, in training mode."""
    found = Objective(
        heads.build(write_encoder(folder, architecture), head, LABELS, False), head, Loss()
    )
    for module in found.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    for name in vars(found.model.config):
        if "dropout" in name:
            setattr(found.model.config, name, 0.0)
    return found.eval()


def outcome(objective: Objective, given: list[Window]) -> tuple[torch.Tensor, ...]:
    """Loss, logits and the gradient of all parameters."""
    objective.zero_grad()
    loss, logits = objective(**objective.inputs(given))
    loss.backward()
    gradients = [p.grad.flatten() for p in objective.parameters() if p.grad is not None]
    return loss.detach(), logits.detach(), torch.cat(gradients)


@pytest.mark.parametrize("head", ["token", "sequence"])
@pytest.mark.parametrize("architecture", PACKED)
def test_packed_rows_are_the_plain_model(architecture: str, head: str, tmp_path: Path) -> None:
    objective = objective_of(architecture, head, tmp_path)
    assert objective.is_packed
    given = windows(head)
    packed = outcome(objective, given)
    inputs = objective.inputs(given)
    assert inputs["input_ids"].shape == (1, sum(len(window.input_ids) for window in given))
    objective.pack(False)
    padded = outcome(objective, given)
    assert objective.inputs(given)["input_ids"].shape[0] == len(given)
    for one, other in zip(packed, padded, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("architecture", PACKED)
def test_the_last_layer_sees_scored_outputs_alone(architecture: str, tmp_path: Path) -> None:
    """Where the class has the form of BERT; elsewhere what follows the layers does."""
    objective = objective_of(architecture, "sequence", tmp_path)
    given = windows("sequence")
    sizes = []
    for module in objective.model.base_model.modules():
        if isinstance(module, torch.nn.Linear) and module.in_features == 64:
            module.register_forward_hook(lambda _, given, out: sizes.append(given[0].shape[1]))
    objective(**objective.inputs(given))
    num_tokens = sum(len(window.input_ids) for window in given)
    narrow = [size for size in sizes if size != num_tokens]
    assert objective.packing is not None
    assert objective.packing.is_early == (architecture in NARROWED)
    assert narrow == ([len(given)] if objective.packing.is_early else [])


@pytest.mark.parametrize("pooling", [None, "mean"])
@pytest.mark.parametrize("head", ["token", "sequence"])
@pytest.mark.parametrize("architecture", PACKED)
def test_a_filler_changes_nothing(
    architecture: str,
    head: str,
    pooling: str | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = objective_of(architecture, head, tmp_path).model
    if pooling is not None:
        model.config.classifier_pooling = pooling
    objective = Objective(model, head, Loss()).eval()
    given = windows(head, count=7)
    bare = outcome(objective, given)
    monkeypatch.setattr(heads, "wants_steady_shapes", lambda model: True)
    inputs = objective.inputs(given)
    num_tokens = sum(len(window.input_ids) for window in given)
    assert inputs["input_ids"].shape == (1, steady(num_tokens))
    assert inputs["segments"].filler == steady(num_tokens) - num_tokens > 0
    assert len(inputs["positions"]) == steady(len(inputs["targets"])) > len(inputs["targets"])
    for one, other in zip(outcome(objective, given), bare, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_steady_numbers() -> None:
    """Few of them, and never much more than was asked for."""
    found = {count: steady(count) for count in range(1, 4097)}
    assert len(set(found.values())) < 64
    assert all(count <= more < count + max(8, count / 8 + 1) for count, more in found.items())
    assert [found[count] for count in (1, 100, 180, 400, 513)] == [8, 104, 192, 416, 576]


def test_only_bf16_on_a_cpu_wants_them() -> None:
    model = torch.nn.Linear(2, 2)
    assert not wants_steady_shapes(model)
    assert wants_steady_shapes(model.bfloat16())
    assert not wants_steady_shapes(model.to("meta"))


@pytest.mark.parametrize("head", ["token", "sequence"])
@pytest.mark.parametrize("architecture", PADDED)
def test_other_classes_are_padded(
    architecture: str, head: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO", "textmill"):
        objective = objective_of(architecture, head, tmp_path)
    assert not objective.is_packed
    assert "its batches are padded" in caplog.text
    assert objective(**objective.inputs(windows(head)))[1].shape[1] == len(LABELS)


@pytest.mark.parametrize("head", ["token", "sequence"])
def test_averages_of_windows(head: str, tmp_path: Path) -> None:
    """A class may average a text's states where others take the first one's."""
    objective = objective_of("modernbert", head, tmp_path)
    model = objective.model
    model.config.classifier_pooling = "mean"
    averaged = Objective(model, head, Loss()).eval()
    given = windows(head)
    packed = outcome(averaged, given)[1]
    averaged.pack(False)
    torch.testing.assert_close(packed, outcome(averaged, given)[1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("is_packed", [True, False])
def test_a_blank_window_gives_nothing_and_touches_every_parameter(
    is_packed: bool, tmp_path: Path
) -> None:
    objective = objective_of("bert", "token", tmp_path)
    objective.pack(is_packed)
    loss, logits = objective(**objective.inputs([blank(windows("token")[0])]))
    assert loss.item() == 0.0
    assert logits.shape == (0, len(LABELS))
    loss.backward()
    used = [p for p in objective.parameters() if p.grad is not None]
    assert len(used) == len([p for p in objective.parameters() if p.requires_grad])
