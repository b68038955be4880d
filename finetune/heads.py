"""Encoders with a task head, as the training engine and serving take them.

Apart from the plug-ins in finetune/tasks/, because building a model needs torch, and checking a
recipe or serving an ONNX model must not.
"""

# B windows  T tokens  L labels  N scored outputs

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
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
from transformers.integrations import is_deepspeed_zero3_enabled

from finetune import used_rows
from finetune.collate import collate
from finetune.losses import SummedLoss
from finetune.packed import Packing, pack, use_attention, wants_steady_shapes
from finetune.task import Loss, Window
from finetune.used_rows import UsedRows
from pretrain.model.dropout import use_cheap_dropout
from pretrain.model.embeddings import whole
from pretrain.model.linear import use_fast_linear
from runtime.errors import DataError, RecipeError

log = logging.getLogger("textmill")

CLASSES: dict[str, Any] = {
    "token": AutoModelForTokenClassification,
    "sequence": AutoModelForSequenceClassification,
}
# Layers of a pretrained model that its masked-LM export need not hold: they are made for the task.
HEAD_PARTS = ("classifier", "score", "pooler", "head.", "pre_classifier")


class Objective(nn.Module):
    """A model with its loss, summed over the scored outputs.

    It takes packed rows if its class can be packed, else padded windows; `inputs` makes either.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        head: str,
        loss: Loss,
        extra: Mapping[str, Any] | None = None,
        rows: UsedRows | None = None,
    ) -> None:
        """`extra` goes with the inputs of every forward, to whatever module this one is part of;
        `rows` is what the model has of its embedding."""
        super().__init__()
        self.model = model
        self.rows = rows
        use_cheap_dropout(model)
        use_fast_linear(model)
        self.head = head
        self.extra = dict(extra or {})
        self.loss = SummedLoss(loss, int(model.config.num_labels))
        self.packing: Packing | None = None
        try:
            self.packing = Packing(model, head)
        except RecipeError as reason:
            log.info("%s: its batches are padded", reason)
        self.is_packed = self.packing is not None

    def pack(self, is_packed: bool) -> None:
        """Take packed rows, or padded windows, from now on."""
        self.is_packed = is_packed
        use_attention(self.model, is_packed)

    def inputs(self, windows: Sequence[Window]) -> dict[str, Any]:
        """What `forward` takes for these windows."""
        if self.is_packed:
            assert self.packing is not None
            is_steady = wants_steady_shapes(self.model)
            found = pack(windows, self.packing.first_position, is_steady)
        else:
            arrays = collate(windows, self.head, self.model.config.pad_token_id or 0)
            found = {name: torch.from_numpy(array) for name, array in arrays.items()}
            found["lengths"] = torch.tensor(
                [size for window in windows for size in window.chain_sizes]
            )
        if self.rows is not None:
            found["input_ids"] = self.rows.places(found["input_ids"])
        return {**found, **self.extra}

    @contextmanager
    def exported(self, state: Mapping[str, Tensor] | None) -> Iterator[Mapping[str, Tensor] | None]:
        """The model's parameters by name as an export has them, from those of the training; inside
        the block the model has the shape that fits them."""
        if self.rows is None:
            yield state
            return
        restored = None if state is None else self.rows.restored(self.model, state)
        with self.rows.hidden(self.model):
            yield restored

    def forward(
        self, positions: Tensor, targets: Tensor, lengths: Tensor, **inputs: Any
    ) -> tuple[Tensor, Tensor]:
        """The summed loss, and the logits (N, L) of the scored outputs in fp32."""
        if self.is_packed:
            assert self.packing is not None
            with self.packing.picking(positions, inputs["segments"]):
                scored = self.model(**inputs).logits.flatten(0, -2)[: len(targets)]
        else:
            logits = self.model(**inputs).logits.flatten(0, -2)  # (B x T, L) or (B, L)
            scored = logits.index_select(0, positions)
        scored = scored.float()
        return self.loss(scored, targets, lengths), scored


def build_for(
    folder: Path, head: str, labels: Sequence[str], is_random: bool, windows: Iterable[Window]
) -> tuple[PreTrainedModel, UsedRows | None]:
    """The model of a task as `build` makes it, with an embedding of the tokens of these windows,
    and those; None if it has the whole embedding.

    A model that is built in shards cannot lose rows, so every rank reads it whole first.
    """
    with whole():
        model = build(folder, head, labels, is_random)
    rows = used_rows.of(model, windows)
    if not is_deepspeed_zero3_enabled():
        return model, rows
    if rows is None:
        return build(folder, head, labels, is_random), None
    return rows.in_shards(model), rows


def num_left_out(module: nn.Module) -> int:
    """Parameters of the models inside that are not trained, since no text uses them."""
    found = [part.rows for part in module.modules() if isinstance(part, Objective)]
    return sum({id(rows): rows.num_left_out for rows in found if rows is not None}.values())


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
