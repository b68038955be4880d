"""The engine beside a plain PyTorch loop: each policy, optimizer and precision; 1, 2 and 4 ranks.

One start of ranks runs all trainings of that number of ranks (engine_ranks.py).
"""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.ranks import run_ranks
from tests.runtime.engine_ranks import (
    OPTIMIZER,
    Case,
    Summed,
    learning_rate,
    num_targets,
    samples,
    save_model,
)

pytestmark = pytest.mark.distributed
STAGES = ["zero0", "zero1", "zero2", "cpu", "zero3_offload"]
POLICIES = [*STAGES, "zero3", "zero3_large", "zeropp_multinode"]
SPLIT = [Case(name, steps=5, grows=False) for name in ("zero0", "zero2", "cpu")]
UNCLIPPED = ["zero0", "zero1", "cpu"]
RELOADED = [
    *(Case(name, steps=6, optimizer="muon", reloads="shards") for name in ("zero1", "cpu")),
    Case("zero0", "bf16", steps=6, reloads="shards"),
    *(Case(name, steps=6, optimizer="muon", reloads="universal") for name in ("zero1", "cpu")),
    Case("cpu", steps=6, optimizer="stable_adamw", reloads="universal"),
    Case("cpu", steps=6, reloads="universal"),
]
# DeepSpeed makes the groups of hierarchical partitions once a process: that policy comes last.
CASES = {
    1: [Case(name, precision) for precision in ("fp32", "bf16") for name in STAGES]
    + [Case(name, steps=6, clip_norm=0.0) for name in UNCLIPPED]
    + [Case("zero1", steps=6, compiles=True)]
    + RELOADED
    + list(dict.fromkeys(replace(case, reloads="") for case in RELOADED))
    + SPLIT,
    2: [Case(name, "bf16", steps=6, refuses=yes) for name in STAGES for yes in (False, True)]
    + [Case(name, steps=6, refuses=True) for name in STAGES]
    + [Case(name, steps=8, optimizer=rule) for name in STAGES for rule in ("stable_adamw", "muon")]
    + SPLIT
    + [Case(name) for name in POLICIES],
    4: SPLIT,
}
Outcome = Mapping[str, Any]  # losses: (loss, norm) of each step; parameters: by name


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The weights that every training starts from."""
    folder = tmp_path_factory.mktemp("engine") / "model"
    save_model(folder)
    return folder


@pytest.fixture(scope="module")
def outcome(model: Path) -> Callable[[int, Case], Outcome]:
    """What became of a training on a number of ranks."""

    @cache
    def outcomes(world: int) -> dict[str, Outcome]:
        output = model.parent / f"{world}.pt"
        script = Path(__file__).parent / "engine_ranks.py"
        cases = json.dumps([asdict(case) for case in CASES[world]])
        done = run_ranks([script, model, output, cases], world, model.parent)
        assert done.exit_codes == [0] * world, done.text
        return dict(torch.load(output, weights_only=True))

    return lambda world, case: outcomes(world)[case.name]


@pytest.fixture(scope="module")
def plain(model: Path) -> Callable[[Case], Outcome]:
    """The same training as a plain PyTorch loop, without an engine."""

    @cache
    def run(case: Case) -> Outcome:
        module = Summed(model)
        if case.precision == "bf16":
            module.bfloat16()
        parameters = list(module.parameters())
        masters = [p.detach().float().clone().requires_grad_() for p in parameters]
        decayed = {"params": [p for p in masters if p.ndim > 1], "weight_decay": 0.1}
        others = {"params": [p for p in masters if p.ndim < 2], "weight_decay": 0.0}
        optimizer = torch.optim.AdamW([decayed, others], betas=OPTIMIZER.betas, eps=OPTIMIZER.eps)
        losses = []
        for step in range(case.steps):
            ids, labels = samples(step, case.grows)
            loss = 0.0
            for start in range(0, len(ids), case.micro_size):
                part = slice(start, start + case.micro_size)
                loss_sum = module(ids[part], labels[part])[0]
                (loss_sum / num_targets(labels)).backward()
                loss += loss_sum.item()
            for master, parameter in zip(masters, parameters, strict=True):
                assert parameter.grad is not None
                master.grad = parameter.grad.float()
            limit = case.clip_norm or math.inf
            norm = torch.nn.utils.clip_grad_norm_(masters, limit).item()
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(step)
            optimizer.step()
            module.zero_grad()
            with torch.no_grad():
                for master, parameter in zip(masters, parameters, strict=True):
                    parameter.copy_(master)
            losses.append((loss, norm))
        names = [name for name, _ in module.named_parameters()]
        return {"losses": losses, "parameters": dict(zip(names, masters, strict=True))}

    return run


def differences(found: Outcome, wanted: Outcome) -> tuple[float, float, float]:
    """The largest: of losses and of norms, relative, and of parameters."""
    ours, theirs = torch.tensor(found["losses"]), torch.tensor(wanted["losses"])
    loss, norm = ((ours - theirs).abs() / theirs).amax(dim=0).tolist()
    parameters: Mapping[str, Tensor] = wanted["parameters"]
    return (
        loss,
        norm,
        max(
            (found["parameters"][name] - value).abs().max().item()
            for name, value in parameters.items()
            if name in found["parameters"]
        ),
    )


@pytest.mark.parametrize("name", STAGES)
def test_one_rank_is_a_plain_loop(name: str, outcome: Any, plain: Any) -> None:
    case = Case(name)
    found = outcome(1, case)
    assert found["losses"][0][0] > found["losses"][-2][0] + 20  # it learns
    assert max(differences(found, plain(Case("plain")))) < 2e-6


@pytest.mark.parametrize("name", UNCLIPPED)
def test_clipping_can_be_switched_off(name: str, outcome: Any, plain: Any) -> None:
    found = outcome(1, Case(name, steps=6, clip_norm=0.0))
    wanted = plain(Case("plain", steps=6, clip_norm=0.0))
    assert max(differences(found, wanted)) < 2e-6
    assert differences(wanted, plain(Case("plain", steps=6)))[2] > 1e-3


def test_a_compiled_encoder_computes_the_same(outcome: Any, plain: Any) -> None:
    found = outcome(1, Case("zero1", steps=6, compiles=True))
    assert max(differences(found, plain(Case("plain", steps=6)))) < 2e-6


@pytest.mark.parametrize("name", POLICIES)
def test_every_policy_on_two_ranks_is_a_plain_loop(name: str, outcome: Any, plain: Any) -> None:
    assert max(differences(outcome(2, Case(name)), plain(Case("plain")))) < 2e-6


@pytest.mark.parametrize("name", STAGES)
def test_bf16_is_a_plain_loop_with_fp32_masters(name: str, outcome: Any, plain: Any) -> None:
    """Rounding to 8 bits differs with the order of sums in backward."""
    found = outcome(1, Case(name, "bf16"))
    loss, norm, _ = differences(found, plain(Case("plain", "bf16")))
    assert loss < 3e-3
    assert norm < 3e-2
    rounded = {key: value.bfloat16().float() for key, value in found["parameters"].items()}
    assert any(not torch.equal(rounded[key], found["parameters"][key]) for key in rounded)


@pytest.mark.parametrize("optimizer", ["stable_adamw", "muon"])
@pytest.mark.parametrize("name", STAGES)
def test_optimizers_do_not_depend_on_the_stage(optimizer: str, name: str, outcome: Any) -> None:
    """Under ZeRO a rank holds shares of parameters, under stage 0 all of them (test_rules.py)."""
    whole = outcome(2, Case("zero0", steps=8, optimizer=optimizer))
    found = outcome(2, Case(name, steps=8, optimizer=optimizer))
    assert max(differences(found, whole)) < 4e-6


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("name", STAGES)
def test_a_refused_step_changes_nothing(name: str, precision: str, outcome: Any) -> None:
    """Not at the first step, nor with gradients that are not finite (engine_ranks.py)."""
    steps = 20 if precision == "fp32" else 6
    never = outcome(2, Case(name, precision, steps=steps))
    found = outcome(2, Case(name, precision, steps=6, refuses=True))
    assert found["losses"] == never["losses"][:6]  # of step 5 only if all after step 4 is equal
    if precision == "bf16":
        for key, value in never["parameters"].items():
            assert torch.equal(found["parameters"][key], value)


@pytest.mark.parametrize("case", RELOADED, ids=lambda case: case.name)
def test_a_reloaded_engine_goes_on_as_before(case: Case, outcome: Any) -> None:
    """States of every optimizer, and its groups: universal loading mixes up their settings."""
    found, wanted = outcome(1, case), outcome(1, replace(case, reloads=""))
    assert found["losses"] == wanted["losses"]
    for name, value in wanted["parameters"].items():
        assert torch.equal(found["parameters"][name], value)


@pytest.mark.parametrize("case", SPLIT, ids=lambda case: case.ds_config)
def test_updates_do_not_depend_on_ranks_or_accumulation(case: Case, outcome: Any) -> None:
    """1 x 4, 2 x 2 and 4 x 1 (ranks x micro batches): the same losses, norms and weights."""
    for world in (2, 4):
        assert max(differences(outcome(world, case), outcome(1, case))) < 2e-6
