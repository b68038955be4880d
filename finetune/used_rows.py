"""The rows of an embedding that the data of a task use, in the place of the whole of it.

Half of the parameters of a small encoder, and two thirds of a multilingual one, are embeddings of
tokens that the texts of a task do not hold. Their gradients are zero, but an optimizer keeps two
moments of each and visits all at every step. So training gets an embedding of the tokens in use
alone; the others wait beside it, as they are, and an export has all of them.
"""

# V tokens of the vocabulary  K tokens in use  D model width

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import PreTrainedModel

from finetune.task import Window


class UsedRows:
    """What a model has in the place of its embedding."""

    def __init__(self, model: PreTrainedModel, ids: NDArray[np.int64]) -> None:
        """Give a model that is not in shards an embedding of these ids (K,) alone."""
        embedding = model.get_input_embeddings()
        assert isinstance(embedding, nn.Embedding)
        self.whole = embedding.weight.detach()  # (V, D), as before training
        self.ids = torch.from_numpy(in_place(ids, embedding.padding_idx))
        self.lookup = torch.full((len(self.whole),), -1)
        self.lookup[self.ids] = torch.arange(len(self.ids))
        padding = embedding.padding_idx
        self.padding = None if padding is None else int(self.lookup[padding])
        self.embedding = nn.Embedding(
            len(self.ids),
            self.whole.shape[1],
            padding_idx=self.padding,
            _weight=self.whole[self.ids],
        )
        model.set_input_embeddings(self.embedding)

    @property
    def num_left_out(self) -> int:
        """Parameters that are not trained."""
        return (len(self.whole) - len(self.ids)) * self.whole.shape[1]

    def places(self, input_ids: Tensor) -> Tensor:
        """Ids of the vocabulary as rows of the embedding in use, of the same shape."""
        found = self.lookup[input_ids]
        if int(found.min()) < 0:
            raise AssertionError("a token is none of those that the data were said to use")
        return found

    def in_shards(self, model: PreTrainedModel) -> PreTrainedModel:
        """The model built again, in shards if the engine's stage says so."""
        config = model.config
        kept = {"vocab_size": config.vocab_size, "pad_token_id": config.pad_token_id}
        try:
            config.update({"vocab_size": len(self.ids), "pad_token_id": self.padding})
            found = type(model).from_pretrained(
                None,
                config=config,
                state_dict=dict(model.state_dict()),  # plain: metadata cannot be copied here
                dtype=torch.float32,
            )
        finally:
            config.update(kept)
        found.config.update(kept)
        self.embedding = found.get_input_embeddings()
        return found

    def restored(self, model: PreTrainedModel, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The parameters of the model by name, with all rows of the embedding (V, D)."""
        name = next(name for name, module in model.named_modules() if module is self.embedding)
        key = f"{name}.weight"
        whole = self.whole.to(state[key], copy=True)
        whole[self.ids] = state[key]
        return {**state, key: whole}

    @contextmanager
    def hidden(self, model: PreTrainedModel) -> Iterator[None]:
        """Inside the block the model has the shape it is exported with, and no values for it."""
        rows, width = self.whole.shape
        model.set_input_embeddings(nn.Embedding(rows, width, device="meta"))
        try:
            yield
        finally:
            model.set_input_embeddings(self.embedding)


def in_place(ids: NDArray[np.int64], padding: int | None) -> NDArray[np.int64]:
    """The ids, and that of the padding token where it was if it can be there: some models count
    positions from its number."""
    if padding is None:
        return ids
    others = ids[ids != padding]
    return np.insert(others, min(padding, len(others)), padding)


def of(model: PreTrainedModel, windows: Iterable[Window]) -> UsedRows | None:
    """Leave the model the rows that windows use; None if it keeps the whole embedding, because it
    is of no plain kind or because all of it is used."""
    embedding = model.get_input_embeddings()
    if type(embedding) is not nn.Embedding:
        return None
    padding = model.config.pad_token_id or 0
    ids = np.unique(np.concatenate([[padding], *(window.input_ids for window in windows)]))
    if len(ids) == embedding.num_embeddings:
        return None
    return UsedRows(model, ids.astype(np.int64))
