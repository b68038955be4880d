"""Encoders with a task head, as the training engine and serving take them.

Apart from the plug-ins in finetune/tasks/, because building a model needs torch, and checking a
recipe or serving an ONNX model must not.
"""

# B windows  T tokens  L labels  N scored outputs

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    PreTrainedModel,
)

from finetune.losses import SummedLoss
from finetune.task import Loss
from runtime.errors import DataError

CLASSES: dict[str, Any] = {
    "token": AutoModelForTokenClassification,
    "sequence": AutoModelForSequenceClassification,
}
# Layers of a pretrained model that its masked-LM export need not hold: they are made for the task.
HEAD_PARTS = ("classifier", "score", "pooler", "head.", "pre_classifier")


class Objective(nn.Module):
    """The model with its loss, summed over the scored outputs."""

    def __init__(self, model: PreTrainedModel, head: str, loss: Loss) -> None:
        super().__init__()
        self.model = model
        self.loss = SummedLoss(loss, int(model.config.num_labels))

    def forward(
        self, positions: Tensor, targets: Tensor, **inputs: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The summed loss, and the logits (N, L) of the scored outputs."""
        logits = self.model(**inputs).logits  # (B, T, L) or (B, L)
        scored = logits.flatten(0, -2)[positions].float()  # (N, L)
        return self.loss(scored, targets), scored


def build(folder: Path, head: str, labels: Sequence[str], is_random: bool) -> PreTrainedModel:
    """The model of a task on the encoder in `folder`, or on the same shape with random weights.

    Raises DataError if the folder's weights do not fill the encoder: transformers would leave the
    rest random with no more than a warning.
    """
    config = AutoConfig.from_pretrained(
        folder,
        id2label=dict(enumerate(labels)),
        label2id={label: i for i, label in enumerate(labels)},
    )
    if is_random:
        return CLASSES[head].from_config(config)
    model, found = CLASSES[head].from_pretrained(
        folder,
        config=config,
        dtype=torch.float32,
        output_loading_info=True,
        ignore_mismatched_sizes=False,
    )
    missing = [
        name
        for name in found["missing_keys"]
        if not name.removeprefix(f"{model.base_model_prefix}.").startswith(HEAD_PARTS)
    ]
    if missing:
        raise DataError(
            f"the weights in {folder} lack {len(missing)} tensors of the encoder "
            f"({', '.join(sorted(missing)[:3])}, ...); set `encoder` to a complete export"
        )
    return model
