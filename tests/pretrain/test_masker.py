"""Laying out rows: padding, segments, targets."""

import numpy as np

from data_prep.shards import Rows
from pretrain.masker import with_padding


def test_padding_is_a_segment_of_its_own() -> None:
    rows = Rows(
        tokens=np.zeros((3, 8), np.int32),
        lengths=np.array([3, 2, 8, 5], np.int32),
        counts=np.array([2, 1, 1]),
        documents=np.zeros(4, np.uint64),
    )
    assert with_padding(rows, 8).tolist() == [3, 2, 3, 8, 5, 3]
