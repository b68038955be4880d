"""The count of operations, beside what PyTorch counts while a model really runs."""

import numpy as np
import pytest
import torch
import transformers
from torch.utils.flop_counter import FlopCounterMode
from transformers import AlbertConfig, AutoModelForMaskedLM, PreTrainedConfig

from pretrain.flops import Flops, num_keys, of_model, work_of
from pretrain.micro_batch import MicroBatch
from pretrain.model import attention
from pretrain.model.attention import segments_of
from tests.pretrain.model.test_attention import CONFIGS

PAD = 3
LENGTH = 96  # a multiple of the step that dense batches are rounded up to
SHAPE = {"vocab_size": 512, "hidden_size": 64, "num_attention_heads": 4, "intermediate_size": 96}
WIDE = {**SHAPE, "num_hidden_layers": 4, "pad_token_id": PAD}


def config_of(name: str) -> PreTrainedConfig:
    """A model a little larger than that of the attention tests; windows as wide as the segment."""
    if name == "albert":
        return AlbertConfig(**WIDE, embedding_size=32)
    if name == "ultrabert":
        if not hasattr(transformers, "UltrabertConfig"):
            pytest.skip("needs a transformers that has UltraBERT")
        return transformers.UltrabertConfig(
            **WIDE, prediction_head_size=48, sliding_window=LENGTH, max_position_embeddings=LENGTH
        )
    more = {"local_attention": 2 * LENGTH} if name == "modernbert" else {}
    return type(CONFIGS[name])(
        **WIDE, max_position_embeddings=LENGTH + PAD + 1, bos_token_id=1, eos_token_id=2,
        cls_token_id=1, sep_token_id=2, **more,
    )  # fmt: skip


def micro_batch(lengths: list[int], padding: int, num_targets: int) -> MicroBatch:
    """Segments of ordinary tokens, then one of padding."""
    ids = torch.full((1, sum(lengths) + padding), 7)
    ids[0, sum(lengths) :] = PAD
    segments = segments_of(np.array([*lengths, padding] if padding else lengths))
    return MicroBatch({"input_ids": ids, "segments": segments}, num_targets, sum(lengths))


@pytest.mark.parametrize("name", ["bert", "roberta", "modernbert", "ultrabert", "albert"])
def test_the_count_is_what_pytorch_counts(name: str) -> None:
    """One segment, every token a target: the library's own head runs on all of them."""
    config = config_of(name)
    if name == "albert":
        model = AutoModelForMaskedLM.from_config(config, attn_implementation="eager")
    else:
        model = AutoModelForMaskedLM.from_config(config, attn_implementation=attention.NAME)
    batch = micro_batch([LENGTH], padding=0, num_targets=LENGTH)
    inputs = {} if name == "albert" else {"segments": batch.inputs["segments"]}
    with FlopCounterMode(display=False) as counter:
        model(input_ids=batch.inputs["input_ids"], **inputs).logits.float().sum().backward()
    assert of_model(model, PAD).of(batch) == pytest.approx(counter.get_total_flops(), rel=0.01)


def test_the_formula_by_hand() -> None:
    """BERT of 2 layers, width 32: 4 attention matrices of 32 x 32 and two of 32 x 48 a layer."""
    model = AutoModelForMaskedLM.from_config(CONFIGS["bert"], attn_implementation=attention.NAME)
    found = of_model(model, PAD)
    assert found.per_token == 6 * 2 * (4 * 32 * 32 + 2 * 32 * 48)
    assert found.per_target == 6 * (32 * 32 + 32 * 128)
    assert (found.width, dict(found.windows)) == (32, {None: 2})
    batch = micro_batch([3, 5], padding=4, num_targets=2)
    attended = 2 * (9 + 25)
    assert found.of(batch) == (8 * found.per_token + 2 * found.per_target + 12 * 32 * attended)


def test_local_layers_are_counted_by_their_window() -> None:
    model = AutoModelForMaskedLM.from_config(
        CONFIGS["modernbert"], attn_implementation=attention.NAME
    )
    found = of_model(model, PAD)
    assert dict(found.windows) == {None: 2, 16: 2}  # every third of 4 layers sees all


@pytest.mark.parametrize("window", [0, 1, 4, 9, 10, 50])
def test_keys_in_a_window(window: int) -> None:
    lengths = np.array([1, 2, 5, 10, 33])
    pairs = sum(
        abs(query - key) <= window
        for length in lengths
        for query in range(length)
        for key in range(length)
    )
    assert num_keys(lengths, window) == pairs
    assert num_keys(lengths, None) == 1 + 4 + 25 + 100 + 33 * 33


def test_padding_is_no_segment() -> None:
    flops = Flops(per_token=0, per_target=0, width=1, windows={None: 1}, pad_id=PAD)
    assert flops.lengths(micro_batch([4, 6], padding=6, num_targets=0)).tolist() == [4, 6]
    assert flops.of(micro_batch([4, 6], padding=6, num_targets=0)) == 12 * (16 + 36)


def test_the_work_of_a_step() -> None:
    flops = Flops(per_token=10, per_target=100, width=0, windows={}, pad_id=PAD)
    batches = [micro_batch([4, 6], 6, num_targets=3), micro_batch([16], 0, num_targets=2)]
    work = work_of(batches, flops)
    assert (work.targets, work.tokens, work.slots, work.flops) == (5, 26, 32, 760.0)
    assert work_of(batches, None).flops == 0.0
