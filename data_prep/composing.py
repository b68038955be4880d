"""How packed documents are written: segments become samples, samples become a shard.

Samples are composed some at a time and go straight to the file, so that a worker holds the tokens
of a shard's documents once, and never its samples.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_prep.packing import NUM_SEPARATORS, Packing, Segments, pack
from data_prep.shards import TokenizerFacts, ranges, write_shard

COPY_TOKENS = 1 << 17  # composed at a time: index arrays that fit the processor's cache

Int64 = NDArray[np.int64]


@dataclass(frozen=True)
class Layout:
    """The arrays of a shard but its tokens; see `data_prep/shards.py`."""

    lengths: NDArray[np.int32]
    offsets: Int64
    documents: Int64  # number of each segment's document among those packed
    starts: Int64
    num_cut: int  # documents in more than one segment


def lay_out(lengths: Int64, segments: Segments) -> Layout:
    """What a shard says of these segments, which are in order."""
    first = np.cumsum(lengths) - lengths
    counts = np.bincount(segments.sample, minlength=segments.num_samples)
    parts = np.bincount(segments.document, minlength=len(lengths))
    return Layout(
        lengths=(segments.length + NUM_SEPARATORS).astype(np.int32),
        offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        documents=segments.document,
        starts=first[segments.document] + segments.document + segments.start,
        num_cut=int((parts > 1).sum()),
    )


def samples_of(
    texts: NDArray[Any], layout: Layout, sequence_length: int, tokenizer: TokenizerFacts
) -> Iterator[NDArray[Any]]:
    """Write the segments of texts, which stand one after the other, into samples (n, T).


    Some samples at a time, in an array that is used again, so that a shard is never in memory.
    """
    num_samples = len(layout.offsets) - 1
    most = max(1, COPY_TOKENS // sequence_length)
    buffer = np.empty(most * sequence_length, texts.dtype)
    for begin in range(0, num_samples, most):
        end = min(begin + most, num_samples)
        part = slice(layout.offsets[begin], layout.offsets[end])
        sizes = layout.lengths[part].astype(np.int64)
        counts = np.diff(layout.offsets[begin : end + 1])
        sums = np.cumsum(sizes) - sizes
        own = np.repeat(sums[layout.offsets[begin:end] - layout.offsets[begin]], counts)
        target = np.repeat(np.arange(end - begin) * sequence_length, counts) + sums - own
        tokens = buffer[: (end - begin) * sequence_length]
        extent = np.diff(target, append=len(tokens))  # the last of a sample reaches to its end
        # The token before a text is read where [CLS] will stand, those after it for the rest.
        shift = layout.starts[part] - layout.documents[part] - 1 - target
        source = np.repeat(shift, extent)
        source += np.arange(len(tokens))
        np.take(texts, source, out=tokens, mode="clip")
        tokens[target] = tokenizer.cls_id
        tokens[target + sizes - 1] = tokenizer.sep_id
        tokens[ranges(target + sizes, extent - sizes)] = tokenizer.pad_id
        yield tokens.reshape(-1, sequence_length)


def write(
    folder: Path,
    name: str,
    texts: NDArray[Any],
    lengths: Int64,
    documents: NDArray[np.uint64],
    packing: Packing,
    tokenizer: TokenizerFacts,
) -> dict[str, Any]:
    """Pack documents, whose tokens stand in `texts` one after the other, and write their shard;
    return its entry for the manifest."""
    layout = lay_out(lengths, pack(lengths, packing))
    counts = {"num_documents": len(lengths), "documents_cut": layout.num_cut}
    return counts | write_shard(
        folder,
        name,
        samples_of(texts, layout, packing.sequence_length, tokenizer),
        lengths=layout.lengths,
        offsets=layout.offsets,
        documents=documents[layout.documents],
        starts=layout.starts,
    )
