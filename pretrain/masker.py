"""From packed samples to a micro batch: masked, flattened to one row, its segments laid out."""

# B samples of the micro batch  T tokens per sample  K targets, padded

import json
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch

from data_prep.shards import Corpus, Rows, TokenizerFacts
from data_prep.word_starts import word_bounds
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

    def micro_batch(self, rows: Rows, keys: masking.UInt64, progress: float) -> MicroBatch:
        """Mask rows (B, T) and flatten them to one packed row (1, B x T); `progress` is the share
        of the run that is done. The shapes do not depend on it."""
        num_samples, length = rows.tokens.shape
        lengths = with_padding(rows, length)
        masked = masking.mask(
            rows.tokens,
            lengths,
            keys,
            masking.share_at(self.objective, progress),
            self.objective,
            vocabulary(self.corpus.tokenizer),
        )
        missing = num_samples * masking.most_targets(self.objective, length) - len(masked.targets)
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


@lru_cache
def vocabulary(facts: TokenizerFacts) -> masking.Vocabulary:
    """What masking must know of a corpus's tokenizer; read once a process."""
    path = facts.folder / "tokenizer.json"
    description = json.loads(path.read_text(encoding="utf-8"))
    is_special = np.zeros(facts.vocab_size, bool)
    is_special[list(facts.special_ids)] = True
    is_token = facts.token_bytes() > 0  # ids may have gaps
    return masking.Vocabulary(
        facts.mask_id,
        is_special,
        np.flatnonzero(is_token & ~is_special),
        word_bounds(description, facts.vocab_size),
    )


def with_padding(rows: Rows, length: int) -> np.ndarray:
    """Segment lengths of all rows in order; what a row has left is a segment of its own."""
    ends = np.cumsum(rows.counts)
    filled = np.add.reduceat(rows.lengths, ends - rows.counts)
    padding = length - filled
    has_padding = padding > 0
    return np.insert(rows.lengths, ends[has_padding], padding[has_padding]).astype(np.int64)
