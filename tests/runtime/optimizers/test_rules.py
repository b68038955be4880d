"""Each update rule against its paper or torch, on whole parameters in one process."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from runtime import config
from runtime.optimizers.adamw import AdamW
from runtime.optimizers.gate import Gate
from runtime.optimizers.groups import parameter_groups
from runtime.optimizers.muon import Muon
from runtime.optimizers.sharded import Rule, Sharded
from runtime.optimizers.shares import Layout, Share
from runtime.optimizers.stable_adamw import StableAdamW
from tests.runtime.optimizers import references

STEPS = 20
SHAPES = [(24, 8), (8, 24), (8, 8)]
RATES = [0.01 * (1 + step % 4) for step in range(STEPS)]


def gradients_of(shape: tuple[int, int]) -> list[Tensor]:
    """Of very different sizes from step to step, so that updates are clipped now and then."""
    generator = torch.Generator().manual_seed(shape[0])
    return [torch.randn(shape, generator=generator) * 10 ** (step % 3) for step in range(STEPS)]


def updated(rule: Rule, group: dict[str, object], accepts: Callable[[int], bool]) -> list[Tensor]:
    """The parameters after all steps; those not accepted are refused once, then made."""
    torch.manual_seed(0)
    parameters = [nn.Parameter(torch.randn(shape)) for shape in SHAPES]
    gate = Gate(lambda: 1.0)
    optimizer = Sharded([{"params": parameters, "rule": "rule", **group}], {"rule": rule}, gate)
    shares = [[Share(i, p.shape, 0, 0, p.numel())] for i, p in enumerate(parameters)]
    optimizer.layout = Layout(parameters, shares, sharded=False)
    for step in range(STEPS):
        for is_accepted in (False, True):
            if not is_accepted and accepts(step):
                continue
            for parameter, shape in zip(parameters, SHAPES, strict=True):
                parameter.grad = gradients_of(shape)[step].clone()
            optimizer.param_groups[0]["lr"] = RATES[step]
            gate.begin(lambda norm, verdict=is_accepted: verdict)  # type: ignore[misc]
            optimizer.step()
    return parameters


def started() -> list[Tensor]:
    torch.manual_seed(0)
    return [torch.randn(shape) for shape in SHAPES]


ADAM = {"weight_decay": 0.1, "betas": (0.9, 0.98), "eps": 1e-6, "fused": True}
MUON = {"weight_decay": 0.1, "momentum": 0.95}


def test_adamw_is_torchs() -> None:
    expected = [nn.Parameter(value) for value in started()]
    theirs = torch.optim.AdamW(expected, weight_decay=0.1, betas=(0.9, 0.98), eps=1e-6)
    for step in range(STEPS):
        for parameter, shape in zip(expected, SHAPES, strict=True):
            parameter.grad = gradients_of(shape)[step]
        theirs.param_groups[0]["lr"] = RATES[step]
        theirs.step()
    for found, wanted in zip(updated(AdamW(), ADAM, lambda step: True), expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=0, atol=1e-6)


def test_stable_adamw_follows_the_paper() -> None:
    found = updated(StableAdamW(), ADAM, lambda step: True)
    plain = updated(AdamW(), ADAM, lambda step: True)
    for value, start, shape, other in zip(found, started(), SHAPES, plain, strict=True):
        wanted = references.stable_adamw(
            start, gradients_of(shape), RATES, 0.1, betas=(0.9, 0.98), eps=1e-6
        )
        torch.testing.assert_close(value.double(), wanted, rtol=0, atol=1e-6)
        assert (value - other).abs().max() > 1e-3  # updates were clipped


def test_muon_follows_its_author_and_torch() -> None:
    found = updated(Muon(torch.float32), MUON, lambda step: True)
    theirs = [nn.Parameter(value) for value in started()]
    optimizer = torch.optim.Muon(theirs, weight_decay=0.1, momentum=0.95)
    for step in range(STEPS):
        for parameter, shape in zip(theirs, SHAPES, strict=True):
            parameter.grad = gradients_of(shape)[step]
        optimizer.param_groups[0]["lr"] = RATES[step]
        optimizer.step()
    for value, start, shape, torchs in zip(found, started(), SHAPES, theirs, strict=True):
        wanted = references.muon(start, gradients_of(shape), RATES, 0.1, 0.95)
        torch.testing.assert_close(value.double(), wanted, rtol=0, atol=2e-5)
        # torch multiplies matrices in bf16: 8 bits of each update
        assert (value - torchs).norm() < 0.02 * (value - start).norm()


@pytest.mark.parametrize(
    ("rule", "group"), [(AdamW(), ADAM), (StableAdamW(), ADAM), (Muon(torch.float32), MUON)]
)
def test_refused_updates_leave_no_trace(rule: Rule, group: dict[str, object]) -> None:
    never = updated(rule, group, lambda step: True)
    at_the_start = updated(rule, group, lambda step: step > 0)  # when there are no states yet
    often = updated(rule, group, lambda step: step % 3 > 0)
    for wanted, first, second in zip(never, at_the_start, often, strict=True):
        assert torch.equal(first, wanted)
        assert torch.equal(second, wanted)


class Encoder(nn.Module):
    """What models have: embeddings, repeated layers with a norm and an embedding inside, a head."""

    def __init__(self) -> None:
        super().__init__()
        self.embeddings = nn.Embedding(10, 4)
        layer = {"dense": nn.Linear(4, 4), "norm": nn.LayerNorm(4), "bias": nn.Embedding(3, 4)}
        self.layers = nn.ModuleList([nn.ModuleDict(layer)])
        self.head = nn.Linear(4, 10)
        self.head.weight = self.embeddings.weight


def named_groups(name: str) -> list[tuple[list[str], str, float, float]]:
    """(names, rule, peak learning rate, weight decay) of each group."""
    module = Encoder()
    names = {id(parameter): name for name, parameter in module.named_parameters()}
    table = config.Optimizer(name=name, learning_rate=0.1, weight_decay=0.3)  # type: ignore[arg-type]
    return [
        ([names[id(p)] for p in group["params"]], group["rule"], group["lr"], group["weight_decay"])
        for group in parameter_groups(module, table)
    ]


def test_matrices_are_decayed_norms_and_biases_are_not() -> None:
    matrices = ["embeddings.weight", "layers.0.dense.weight", "layers.0.bias.weight"]
    vectors = ["layers.0.dense.bias", "layers.0.norm.weight", "layers.0.norm.bias", "head.bias"]
    for name in ("adamw", "stable_adamw"):
        assert named_groups(name) == [(matrices, name, 0.1, 0.3), (vectors, name, 0.1, 0.0)]


def test_muon_updates_the_matrices_of_layers_only() -> None:
    vectors = ["layers.0.dense.bias", "layers.0.norm.weight", "layers.0.norm.bias", "head.bias"]
    assert named_groups("muon") == [
        (["layers.0.dense.weight"], "muon", 0.02, 0.3),
        (["embeddings.weight", "layers.0.bias.weight"], "adamw", 0.1, 0.3),
        (vectors, "adamw", 0.1, 0.0),
    ]
