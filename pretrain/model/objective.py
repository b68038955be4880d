"""Masked-LM objective: the encoder on all tokens, the head on the targets only.

`forward` returns a tuple: the summed loss; in evaluation mode also the loss and the hit of every
target. Knows nothing of ranks, engines or paths.
"""

# T tokens of the micro batch  K targets (static: padded with IGNORED)  D model width  V vocabulary

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel

from pretrain.model.attention import Segments

IGNORED = -100
CHUNK = 512  # targets whose logits are in fp32 at a time

# The prediction head of each architecture, as the names of the modules applied in order.
HEADS = {"modernbert": ("head", "decoder"), "bert": ("cls",), "roberta": ("lm_head",)}


class MaskedLM(nn.Module):
    """A transformers masked-LM model whose loss is summed over its targets."""

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.model = model
        self.head_names = HEADS[model.config.model_type]

    def forward(
        self,
        input_ids: Tensor,
        position_ids: Tensor,
        positions: Tensor,
        targets: Tensor,
        segments: Segments,
    ) -> tuple[Tensor, ...]:
        """input_ids, position_ids (1, T); positions, targets (K,), targets IGNORED where padded."""
        hidden = self.encode(input_ids, position_ids, segments)  # (1, T, D)
        scored = hidden[0].index_select(0, positions)  # (K, D)
        for name in self.head_names:
            scored = self.model.get_submodule(name)(scored)  # (K, D) -> (K, V)
        losses = torch.cat(
            [
                functional.cross_entropy(
                    part.float(), wanted, ignore_index=IGNORED, reduction="none"
                )
                for part, wanted in zip(
                    torch.split(scored, CHUNK), torch.split(targets, CHUNK), strict=True
                )
            ]
        )  # (K,)
        if self.training:
            return (losses.sum(),)
        return losses.sum(), losses, scored.argmax(-1) == targets

    def encode(self, input_ids: Tensor, position_ids: Tensor, segments: Segments) -> Tensor:
        """Hidden states (1, T, D) of a packed row."""
        extra: dict[str, Any] = {"segments": segments}
        encoder = self.model.base_model
        return encoder(input_ids=input_ids, position_ids=position_ids, **extra)[0]  # type: ignore[no-any-return]
