"""A plain masked-LM loop of transformers, the other side of gpu_pretrain.py.

    python benchmarks/gpu_loop.py JSON

The model class as it is, fp32 weights under bf16 autocast, fused AdamW, clipping, 30 % of the
tokens masked, the class's own loss (ModernBERT with its sparse prediction). Modes: `padded` has one
document a row and sdpa; the others have rows filled with documents that do not see each other:
`masked` by a block mask through sdpa, `masked-compiled` the same under torch.compile, `flash` by
flash attention of the package flash_attn from restarted positions, `flex` by a block mask of
flex_attention. Batches are made before the clock runs. Where memory does not suffice the rows of a
forward are halved. Real tokens per second, padding left out.
"""

import json
import sys
import time
from collections.abc import Iterator
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForMaskedLM

from data_prep.shards import Corpus

MASK_SHARE = 0.3
ATTENTION = {
    "padded": "sdpa",
    "masked": "sdpa",
    "masked-compiled": "sdpa",
    "flash": "flash_attention_2",
    "flex": "flex_attention",
}


def main() -> None:
    given = json.loads(sys.argv[1])
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    corpus = Corpus(Path(given["shards"]))
    config = AutoConfig.from_pretrained(given["config"])
    if config.model_type == "modernbert":
        config.sparse_prediction = True
    rows = max(given["micro_tokens"] // given["length"], 1)
    while True:
        try:
            found = measured(given, config, corpus, rows, device)
            break
        except torch.OutOfMemoryError:
            if rows == 1:
                raise
            torch.cuda.empty_cache()
            rows //= 2
    Path(given["output"]).write_text(json.dumps({**found, "rows": rows}), encoding="utf-8")


def measured(
    given: dict[str, Any], config: Any, corpus: Corpus, rows: int, device: torch.device
) -> dict[str, Any]:
    """Train some steps with so many rows a forward; the speed of the later ones."""
    torch.manual_seed(0)
    model = AutoModelForMaskedLM.from_config(
        config, attn_implementation=ATTENTION[given["mode"]], dtype=torch.float32
    )
    model.to(device).train()
    run: Any = torch.compile(model) if given["mode"] == "masked-compiled" else model
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    accumulation = given["accumulation"] * max(1, given["micro_tokens"] // given["length"] // rows)
    warmup, counted = given["steps"]
    radius = config.sliding_window if config.model_type == "modernbert" else None
    made = batches(given, corpus, rows, device, radius)
    kept = list(islice(made, accumulation * 2))  # taken again and again
    if not kept:
        raise ValueError("the shards are too small for one batch")
    source = cycle(kept)
    tokens, started = 0, 0.0
    for step in range(warmup + counted):
        if step == warmup:
            synchronize(device)
            tokens, started = 0, time.perf_counter()
        for _ in range(accumulation):
            inputs, num_tokens = next(source)
            with torch.autocast(device.type, torch.bfloat16):
                loss = run(**inputs).loss / accumulation
            loss.backward()
            tokens += num_tokens
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    synchronize(device)
    found = {"tokens_per_s": tokens / (time.perf_counter() - started), "loss": loss.item()}
    if device.type == "cuda":
        found["device_peak_gib"] = torch.cuda.max_memory_allocated() / (1 << 30)
    return found


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def batches(
    given: dict[str, Any], corpus: Corpus, rows: int, device: torch.device, radius: int | None
) -> Iterator[tuple[dict[str, Any], int]]:
    """Inputs of one forward on the device, and their real tokens; `radius` is that of the local
    layers' window, None without such layers."""
    length, mask_id, pad_id = given["length"], corpus.tokenizer.mask_id, corpus.tokenizer.pad_id
    rng = np.random.default_rng(0)
    for parts in row_parts(given, corpus, rng, rows):
        sizes = [[len(part) for part in row] for row in parts]
        width = max(sum(row) for row in sizes) if given["mode"] == "padded" else length
        ids = np.full((rows, width), pad_id)
        places = np.zeros((rows, width), np.int64)
        documents = np.full((rows, width), -1)
        for number, row in enumerate(parts):
            at = 0
            for document, part in enumerate(row):
                ids[number, at : at + len(part)] = part
                places[number, at : at + len(part)] = np.arange(len(part))
                documents[number, at : at + len(part)] = document
                at += len(part)
        is_real = documents >= 0
        is_target = is_real & (rng.random(ids.shape) < MASK_SHARE)
        labels = np.where(is_target, ids, -100)
        ids = np.where(is_target, mask_id, ids)
        inputs: dict[str, Any] = {
            "input_ids": torch.from_numpy(ids),
            "labels": torch.from_numpy(labels),
        }
        if given["mode"] == "padded":
            inputs["attention_mask"] = torch.from_numpy(is_real.astype(np.int64))
        elif given["mode"] == "flash":  # one row; boundaries are where positions start again
            inputs = {name: value.reshape(1, -1) for name, value in inputs.items()}
            inputs["position_ids"] = torch.from_numpy(places.reshape(1, -1))
        else:
            inputs["position_ids"] = torch.from_numpy(places)
        inputs = {name: value.to(device) for name, value in inputs.items()}
        if given["mode"] in ("masked", "masked-compiled", "flex"):
            is_flex = given["mode"] == "flex"
            mask = block_masks(torch.from_numpy(documents).to(device), is_flex, radius)
            inputs["attention_mask"] = mask
        yield inputs, int(is_real.sum())


def row_parts(
    given: dict[str, Any], corpus: Corpus, rng: np.random.Generator, rows: int
) -> Iterator[list[list[np.ndarray]]]:
    """The documents of each row of a forward, cut at the length."""
    readers = [corpus.reader(name, "train") for name in corpus.sources]
    pieces: list[np.ndarray] = []
    for reader in readers:
        found = reader.gather(np.arange(min(reader.num_samples, 4096)))
        ends = np.cumsum(found.counts)
        for row, first, end in zip(found.tokens, [0, *ends[:-1]], ends, strict=True):
            at = 0
            for size in found.lengths[first:end]:
                piece = row[at : at + size]
                pieces += [
                    piece[start : start + given["length"]]
                    for start in range(0, size, given["length"])
                ]
                at += size
    order = [pieces[number] for number in rng.permutation(len(pieces))]
    if given["mode"] == "padded":
        for start in range(0, len(order) - rows + 1, rows):
            yield [[piece] for piece in order[start : start + rows]]
        return
    filled: list[list[np.ndarray]] = [[]]
    for piece in order:  # next fit: what is left of a row stays empty
        if sum(map(len, filled[-1])) + len(piece) > given["length"]:
            filled.append([])
        filled[-1].append(piece)
        if len(filled) > rows:
            yield filled[:rows]
            filled = filled[rows:]


def block_masks(documents: Tensor, is_flex: bool, radius: int | None) -> Any:
    """What keeps the documents (rows, length) of a row apart; -1 is padding."""
    rows, length = documents.shape
    if is_flex:
        from torch.nn.attention.flex_attention import create_block_mask

        def is_same(row: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
            return documents[row, query] == documents[row, key]

        mask: Any = create_block_mask(
            is_same, rows, None, length, length, device=str(documents.device)
        )
        return mask if radius is None else {"full_attention": mask, "sliding_attention": mask}
    same = (documents[:, :, None] == documents[:, None, :])[:, None]  # (rows, 1, length, length)
    if radius is None:
        return same
    places = torch.arange(length, device=documents.device)
    near = (places[:, None] - places[None, :]).abs() <= radius
    return {"full_attention": same, "sliding_attention": same & near}


if __name__ == "__main__":
    main()
