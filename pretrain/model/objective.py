"""Masked-LM objective: the encoder on all tokens, the head on the targets only.

`forward` returns a tuple: the summed loss; in evaluation mode also the loss and the hit of every
target. Knows nothing of ranks, engines or paths.
"""

# T tokens of the micro batch  K targets (static: padded with IGNORED)  D model width  V vocabulary

from functools import partial
from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedModel

from pretrain.model.attention import Segments
from pretrain.model.cross_entropy import IGNORED as IGNORED
from pretrain.model.cross_entropy import judged
from pretrain.model.dropout import use_cheap_dropout
from pretrain.model.head import Head, summed_loss
from pretrain.model.linear import use_fast_linear


class MaskedLM(nn.Module):
    """A transformers masked-LM model whose loss is summed over its targets."""

    def __init__(self, model: PreTrainedModel) -> None:
        """Raises RecipeError if the class of the model cannot be trained on packed samples."""
        super().__init__()
        self.model = model
        self.head = Head(model)
        use_cheap_dropout(model)
        use_fast_linear(model)

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
        hidden = hidden[0].index_select(0, positions)  # (K, D)
        if self.training:
            return (self.head.transformed(hidden, summed_loss(targets)),)
        losses, hits = self.head.transformed(hidden, partial(judged, targets=targets))
        return losses.sum(), losses, hits

    def encode(self, input_ids: Tensor, position_ids: Tensor, segments: Segments) -> Tensor:
        """Hidden states (1, T, D) of a packed row."""
        extra: dict[str, Any] = {"segments": segments}
        encoder = self.model.base_model
        return encoder(input_ids=input_ids, position_ids=position_ids, **extra)[0]  # type: ignore[no-any-return]
