"""Packed attention: equal to unpacked for each model, values and gradients, and never leaking."""

import numpy as np
import pytest
import torch
from transformers import (
    AutoModelForMaskedLM,
    BertConfig,
    EuroBertConfig,
    ModernBertConfig,
    RobertaConfig,
    UltrabertConfig,
)

from pretrain.model import attention
from pretrain.model.attention import hidden_keys, segments_of
from pretrain.model.build import first_position
from pretrain.model.objective import MaskedLM

LENGTHS = np.array([5, 40, 33, 1, 64, 7, 90])
SMALL = {
    "vocab_size": 128,
    "hidden_size": 32,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "pad_token_id": 0,
}
NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
CONFIGS = {
    # windows of 16 to each side: shorter and longer than the segments
    "modernbert": ModernBertConfig(
        **SMALL,
        num_hidden_layers=4,
        local_attention=32,
        bos_token_id=1,
        eos_token_id=2,
        cls_token_id=1,
        sep_token_id=2,
    ),
    "bert": BertConfig(**SMALL, **NO_DROPOUT, num_hidden_layers=2),
    "roberta": RobertaConfig(
        **SMALL, **NO_DROPOUT, num_hidden_layers=2, max_position_embeddings=600
    ),
    # two heads of keys and values for four of queries
    "ultrabert": UltrabertConfig(
        **SMALL,
        num_hidden_layers=4,
        num_key_value_heads=2,
        sliding_window=16,
        prediction_head_size=40,
        max_position_embeddings=600,
    ),
    "eurobert": EuroBertConfig(
        **SMALL, num_hidden_layers=2, num_key_value_heads=2, max_position_embeddings=600
    ),
}


def row(config: object) -> tuple[torch.Tensor, torch.Tensor]:
    """Random tokens of all segments as one row, and their positions within the segments."""
    generator = torch.Generator().manual_seed(3)
    ids = torch.randint(5, 128, (1, int(LENGTHS.sum())), generator=generator)
    positions = np.concatenate([np.arange(n) for n in LENGTHS]) + first_position(config)
    return ids, torch.from_numpy(positions)[None]


def make(name: str) -> MaskedLM:
    torch.manual_seed(0)
    model = AutoModelForMaskedLM.from_config(CONFIGS[name], attn_implementation=attention.NAME)
    return MaskedLM(model).eval()


def alone(objective: MaskedLM, ids: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
    """Hidden states of each segment through the library's own attention, concatenated."""
    parts = []
    objective.model.config._attn_implementation = "sdpa"
    for end, length in zip(np.cumsum(LENGTHS), LENGTHS, strict=True):
        part = slice(end - length, end)
        parts.append(
            objective.model.base_model(input_ids=ids[:, part], position_ids=positions[:, part])[0]
        )
    objective.model.config._attn_implementation = attention.NAME
    return torch.cat(parts, dim=1)


def close(found: torch.Tensor, expected: torch.Tensor) -> bool:
    """Equal to 1e-6 of the largest value."""
    return bool((found - expected).abs().max() <= 1e-6 * expected.abs().max().clamp(min=1))


@pytest.mark.parametrize("name", CONFIGS)
def test_packed_equals_unpacked_in_values_and_gradients(name: str) -> None:
    """Hidden states, loss and the gradient of every parameter, in training mode."""
    objective = make(name).train()
    ids, positions = row(objective.model.config)
    scored = torch.arange(0, int(LENGTHS.sum()), 3)
    targets = ids[0, scored]
    results = []
    for forward in (
        lambda: objective.encode(ids, positions, segments_of(LENGTHS)),
        lambda: alone(objective, ids, positions),
    ):
        objective.zero_grad()
        hidden = forward()
        logits = objective.head.logits(hidden[0, scored])
        loss = torch.nn.functional.cross_entropy(logits, targets)
        loss.backward()
        gradients = {
            key: value.grad.clone()
            for key, value in objective.named_parameters()
            if value.grad is not None
        }
        results.append((hidden.detach(), loss.detach(), gradients))
    (packed, loss, gradients), (alone_hidden, alone_loss, alone_gradients) = results
    assert close(packed, alone_hidden)
    torch.testing.assert_close(loss, alone_loss, rtol=1e-6, atol=0)
    assert gradients.keys() == alone_gradients.keys() == dict(objective.named_parameters()).keys()
    for key, gradient in alone_gradients.items():
        assert close(gradients[key], gradient), key
    # the objective's own way to the same loss: targets of all segments in one forward
    objective.zero_grad()
    loss_sum = objective(ids, positions, scored, targets, segments_of(LENGTHS))[0]
    (loss_sum / len(targets)).backward()
    torch.testing.assert_close(loss_sum.detach() / len(targets), alone_loss, rtol=1e-6, atol=0)
    for key, value in objective.named_parameters():
        assert value.grad is not None
        assert close(value.grad, alone_gradients[key]), key


@pytest.mark.parametrize("name", CONFIGS)
def test_a_segment_does_not_notice_its_neighbours(name: str) -> None:
    objective = make(name)
    ids, positions = row(objective.model.config)
    before = objective.encode(ids, positions, segments_of(LENGTHS))
    changed = ids.clone()
    changed[0, :5] = 77  # the first segment
    after = objective.encode(changed, positions, segments_of(LENGTHS))
    assert torch.equal(before[0, 5:], after[0, 5:])
    assert not torch.equal(before[0, :5], after[0, :5])


@pytest.mark.parametrize("name", CONFIGS)
def test_position_ids_alone_would_leak(name: str) -> None:
    """Why the attention exists: the library's own attention mixes the segments without a word."""
    objective = make(name)
    ids, positions = row(objective.model.config)
    exact = objective.encode(ids, positions, segments_of(LENGTHS))
    objective.model.config._attn_implementation = "sdpa"
    leaking = objective.model.base_model(input_ids=ids, position_ids=positions)[0]
    assert (exact - leaking).abs().max() > 1e-4


def test_the_model_refuses_to_run_without_boundaries() -> None:
    objective = make("bert")
    ids, positions = row(objective.model.config)
    with pytest.raises(AssertionError, match="segments"):
        objective.model.base_model(input_ids=ids, position_ids=positions)


def test_layout_of_two_short_segments_and_a_long_one() -> None:
    layout = segments_of(np.array([2, 40, 3]))
    assert layout.boundaries.tolist() == [0, 2, 42, 45]
    assert layout.longest == 40
    short, long = layout.dense.groups
    assert short.index.tolist() == [[0, 1, 1], [42, 43, 44]]  # the end repeats the last token
    assert short.is_key.tolist() == [[True, True, False], [True, True, True]]
    assert not short.is_full
    assert long.is_full
    # results stand as short group (2 x 3 rows), then long group
    assert layout.dense.restore[:2].tolist() == [0, 1]
    assert layout.dense.restore[42:].tolist() == [3, 4, 5]
    assert layout.dense.restore[2:42].tolist() == list(range(6, 46))


def test_window_hides_keys_further_than_its_half() -> None:
    (group,) = segments_of(np.array([4])).dense.groups
    hidden = hidden_keys(group, window=1)
    assert hidden is not None
    assert hidden.int().tolist() == [[0, 0, 1, 1], [0, 0, 0, 1], [1, 0, 0, 0], [1, 1, 0, 0]]
    assert hidden_keys(group, window=3) is None
