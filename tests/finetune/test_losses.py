"""Losses against pencil sums and against enumeration of every tag sequence."""

import itertools
import math

import numpy as np
import pytest
import torch
from torch import Tensor

from finetune import losses
from finetune.losses import FORBIDDEN, SummedLoss, num_targets
from finetune.task import IGNORED, Loss

ONE = torch.tensor([1])


def value(table: Loss, scored: list[list[float]], targets: Tensor) -> float:
    module = SummedLoss(table, len(scored[0]))
    return float(module(torch.tensor(scored), targets, torch.tensor([len(scored)])))


def test_class_weights_multiply_the_loss_of_their_label() -> None:
    scored, targets = [[0.0, math.log(3)], [0.0, 0.0]], torch.tensor([1, 0])
    assert value(Loss(), scored, targets) == pytest.approx(math.log(4 / 3) + math.log(2))
    weighted = value(Loss(class_weights=(3.0, 0.5)), scored, targets)
    assert weighted == pytest.approx(0.5 * math.log(4 / 3) + 3 * math.log(2))


def test_focal_loss_by_hand() -> None:
    scored, targets = [[0.0, math.log(3)], [0.0, 0.0]], torch.tensor([1, IGNORED])
    found = value(Loss("focal", gamma=2.0), scored, targets)
    assert found == pytest.approx(0.25**2 * math.log(4 / 3))
    assert value(Loss("focal", gamma=0.0), scored, targets) == pytest.approx(
        value(Loss(), scored, targets)
    )
    sure = torch.tensor([[40.0, -40.0]], requires_grad=True)
    SummedLoss(Loss("focal", gamma=0.5), 2)(sure, torch.tensor([0]), ONE).backward()
    assert torch.isfinite(sure.grad).all()


def test_binary_loss_by_hand() -> None:
    scored = [[0.0, math.log(3), 5.0]]
    targets = torch.tensor([[1.0, 0.0, math.nan]])
    found = value(Loss("binary", class_weights=(4.0, 9.0, 1.0)), scored, targets)
    assert found == pytest.approx(4 * math.log(2) + math.log(4))  # a no weighs 1


def test_squared_loss_is_in_training_deviations() -> None:
    table = Loss("squared", decoding={"mean": 100.0, "deviation": 10.0})
    targets = torch.tensor([[120.0], [math.nan]])
    assert value(table, [[0.5], [7.0]], targets) == pytest.approx((0.5 - 2.0) ** 2)


def test_targets_are_counted_where_known() -> None:
    assert num_targets(np.array([0, IGNORED, 2])) == 2
    assert num_targets(np.array([[1.0, np.nan], [0.0, 1.0]], dtype=np.float32)) == 3


def test_weights_that_fit_no_label_are_refused() -> None:
    with pytest.raises(ValueError, match="2 class weights for 3 labels"):
        SummedLoss(Loss(class_weights=(1.0, 1.0)), 3)


def enumerated(scored: Tensor, targets: list[int], parts: dict[str, Tensor]) -> tuple[float, float]:
    """Log sums over all sequences, and over those with the known tags."""
    free, given = [], []
    for tags in itertools.product(range(scored.shape[1]), repeat=len(targets)):
        total = parts["start"][tags[0]] + parts["end"][tags[-1]]
        total = total + sum(scored[i, tag] for i, tag in enumerate(tags))
        total = total + sum(parts["between"][a, b] for a, b in itertools.pairwise(tags))
        free.append(float(total))
        if all(want in (tag, IGNORED) for tag, want in zip(tags, targets, strict=True)):
            given.append(float(total))
    return tuple(math.log(sum(map(math.exp, found))) for found in (free, given))


@pytest.mark.parametrize(
    "targets", [[1, IGNORED, 2, 0, 1], [1, 1, 2, 0, 1], [IGNORED, 1, 2, 0, IGNORED]]
)
def test_chain_equals_enumeration(targets: list[int]) -> None:
    torch.manual_seed(0)
    parts = {"start": torch.randn(3), "between": torch.randn(3, 3), "end": torch.randn(3)}
    parts["between"][0, 2] = -math.inf
    initial = {name: found.tolist() for name, found in parts.items()}
    module = SummedLoss(Loss("crf", decoding={"transitions": initial}), 3)
    scored = torch.randn(5, 3)
    found = float(module(scored, torch.tensor(targets), torch.tensor([3, 0, 2])).detach())
    sums = [enumerated(scored[:3], targets[:3], parts), enumerated(scored[3:], targets[3:], parts)]
    assert found == pytest.approx(sum(free - given for free, given in sums), abs=1e-4)


@pytest.mark.parametrize("chunk", [1, 2**22])
def test_the_gradient_of_all_sequences_is_that_of_their_sum(
    chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In double precision, over windows of unequal length, with impossible tags and steps."""
    monkeypatch.setattr(losses, "CHUNK", chunk)
    torch.manual_seed(0)
    inputs = [torch.randn(*shape).double() for shape in ((4, 5, 3), (3,), (3, 3), (3,))]
    inputs[0][0, 1, 0] = -math.inf
    inputs[2][0, 2] = FORBIDDEN
    inputs = [found.requires_grad_() for found in inputs]
    lengths = torch.tensor([5, 1, 3, 4])

    found = losses.log_sums(inputs[0], lengths, *inputs[1:])
    rows = (each[:length] for each, length in zip(inputs[0], lengths, strict=True))
    wanted = torch.stack([looped(each, *inputs[1:]) for each in rows])
    torch.testing.assert_close(found, wanted)
    weights = torch.tensor([2.0, -1.0, 0.5, 3.0]).double()
    gradients = (torch.autograd.grad(sums @ weights, inputs) for sums in (found, wanted))
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs)


def looped(emissions: Tensor, start: Tensor, between: Tensor, end: Tensor) -> Tensor:
    """The forward algorithm over one sequence (P, L), which autograd can read."""
    sums = start + emissions[0]
    for row in emissions[1:]:
        sums = (sums[:, None] + between).logsumexp(0) + row
    return (sums + end).logsumexp(0)


def test_forbidden_transitions_stay_and_nothing_scored_still_differentiates() -> None:
    initial = {"start": [0.0, -math.inf], "between": [[0.0, 0.0], [0.0, 0.0]], "end": [0.0, 0.0]}
    module = SummedLoss(Loss("crf", decoding={"transitions": initial}), 2)
    scored = torch.zeros(2, 2, requires_grad=True)
    module(scored, torch.tensor([0, 1]), torch.tensor([2])).backward()
    chain = module.chain
    assert chain is not None
    assert chain.get_parameter("start").grad.tolist()[1] == 0.0
    trained = chain.transitions(dict(chain.named_parameters()))
    assert trained["start"][1] == FORBIDDEN
    chain.zero_grad()
    nothing = module(scored[:0], torch.tensor([], dtype=torch.long), torch.tensor([0]))
    nothing.backward()
    assert float(nothing.detach()) == 0.0
    assert all(found.grad is not None for found in chain.parameters())
