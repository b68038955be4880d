"""The objective sharded over two ranks equals the same model in one plain process."""

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForMaskedLM

from tests.pretrain.model import objective_ranks
from tests.pretrain.model.objective_ranks import MICRO_BATCHES, STEPS, inputs, load
from tests.pretrain.model.test_attention import CONFIGS
from tests.ranks import run_ranks


def plain(folder: Path) -> tuple[list[float], list[float], dict[str, torch.Tensor]]:
    """Losses, losses of an evaluation, parameters: torch alone."""
    objective = load(folder).train()
    decayed = [p for p in objective.parameters() if p.ndim > 1]
    others = [p for p in objective.parameters() if p.ndim < 2]
    groups = [{"params": decayed, "weight_decay": 0.01}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=1e-2, betas=(0.9, 0.98), eps=1e-6)
    losses = []
    for step in range(STEPS):
        numbers = range(step * MICRO_BATCHES, (step + 1) * MICRO_BATCHES)
        parts = [inputs(number) for number in numbers]
        loss = sum(objective(**given)[0] for given, _ in parts) / sum(n for _, n in parts)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    judged = objective.eval()(**inputs(99)[0])[1].tolist()
    return losses, judged, {name: p.detach() for name, p in objective.named_parameters()}


@pytest.mark.distributed
def test_zero3_on_two_ranks_equals_one_process(tmp_path: Path) -> None:
    """Tied weights, sharded: the output layer's is gathered for its loss and for its gradient."""
    torch.manual_seed(0)
    AutoModelForMaskedLM.from_config(CONFIGS["bert"]).save_pretrained(tmp_path / "model")
    script = Path(objective_ranks.__file__)
    output = tmp_path / "result.pt"
    done = run_ranks([script, tmp_path / "model", output, "cpu"], 2, tmp_path)
    assert done.exit_codes == [0, 0], done.text
    found, recomputed = torch.load(output, weights_only=True)
    losses, judged, parameters = plain(tmp_path / "model")
    assert found["losses"] == pytest.approx(losses, rel=1e-6)
    assert found["judged"] == pytest.approx(judged, rel=1e-4)
    assert found["parameters"].keys() >= parameters.keys()  # tied ones have two names
    for name, expected in parameters.items():
        torch.testing.assert_close(found["parameters"][name], expected, rtol=0, atol=2e-4)
    assert recomputed["losses"] == found["losses"]
    for name, expected in found["parameters"].items():
        assert torch.equal(recomputed["parameters"][name], expected), name
