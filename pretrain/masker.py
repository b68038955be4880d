"""From packed samples to a micro batch: masked, flattened to one row, its segments laid out."""

# B samples of the micro batch  T tokens per sample  K targets, padded

import math
from dataclasses import dataclass

import numpy as np
import torch

from data_prep.shards import Corpus, Rows
from pretrain import masking
from pretrain.config import Objective
from pretrain.micro_batch import MicroBatch
from pretrain.model.attention import segments_of
from pretrain.model.objective import IGNORED


@dataclass(frozen=True)
class Masker:
    """How the samples of a corpus are masked and laid out."""

    corpus: Corpus
    objective: Objective
    seed: int
    first_position: int

    def micro_batch(self, rows: Rows, keys: np.ndarray) -> MicroBatch:
        """Mask rows (B, T) and flatten them to one packed row (1, B x T)."""
        facts = self.corpus.tokenizer
        masked = masking.mask(
            rows.tokens,
            keys,
            self.objective.mask_share,
            self.objective.replace_by_mask,
            self.objective.replace_by_random,
            facts.mask_id,
            np.asarray(facts.special_ids),
            facts.vocab_size,
        )
        num_samples, length = rows.tokens.shape
        lengths = with_padding(rows, length)
        most = num_samples * max(1, math.floor(self.objective.mask_share * length))
        missing = most - len(masked.targets)
        starts = np.cumsum(lengths) - lengths
        position_ids = np.arange(num_samples * length) - np.repeat(starts, lengths)
        inputs = {
            "input_ids": torch.from_numpy(masked.tokens.reshape(1, -1)),
            "position_ids": torch.from_numpy(position_ids[None] + self.first_position),
            "positions": torch.from_numpy(np.pad(masked.positions, (0, missing))),
            "targets": torch.from_numpy(
                np.pad(masked.targets, (0, missing), constant_values=IGNORED)
            ),
            "segments": segments_of(lengths),
        }
        return MicroBatch(inputs, len(masked.targets), int(rows.lengths.sum()))


def with_padding(rows: Rows, length: int) -> np.ndarray:
    """Segment lengths of all rows in order; what a row has left is a segment of its own."""
    ends = np.cumsum(rows.counts)
    filled = np.add.reduceat(rows.lengths, ends - rows.counts)
    padding = length - filled
    has_padding = padding > 0
    return np.insert(rows.lengths, ends[has_padding], padding[has_padding]).astype(np.int64)
