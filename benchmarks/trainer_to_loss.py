"""The Trainer's side of `pretrain_vs_trainer.py`: train until a validation loss is reached.

    torchrun --nproc_per_node 2 benchmarks/trainer_to_loss.py DATA_NPZ OUTPUT_JSON PRECISION \
        BATCH TARGET_LOSS MOST_SECONDS EVALUATE_EVERY

transformers' Trainer on rows of 512 tokens as its run_mlm.py prepares them (dynamic masking of
30 %, attention over the whole row, logits of all tokens), constant learning rate after a warm-up.
Every few steps it is scored on the same masked documents as ours, each document alone; the time
that takes is not counted. Writes [[step, training seconds, validation loss], ...].
"""

import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from transformers import (
    BertConfig,
    BertForMaskedLM,
    DataCollatorForLanguageModeling,
    PreTrainedTokenizerFast,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

IGNORED = -100
TOKENS_AT_ONCE = 4096


class Scoring(TrainerCallback):
    """Counts training time, scores every few steps, stops at the target."""

    def __init__(
        self, data: Any, output: Path, target: float, most_seconds: float, every: int
    ) -> None:
        self.segments = segments(data)
        self.output, self.target, self.every = output, target, every
        self.most_seconds = most_seconds
        self.curve: list[tuple[int, float, float]] = []
        self.seconds = 0.0

    def on_train_begin(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
        self.started = time.perf_counter()

    def on_step_end(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
        if state.global_step % self.every:
            return
        self.seconds += time.perf_counter() - self.started
        loss = score(rest["model"], self.segments, args.bf16)
        self.curve.append((state.global_step, self.seconds, loss))
        # Rank 0's clock decides for all.
        is_late = torch.tensor(float(self.seconds > self.most_seconds))
        torch.distributed.broadcast(is_late, 0)
        control.should_training_stop = loss <= self.target or bool(is_late)
        if state.is_world_process_zero:
            print(
                f"Trainer step {state.global_step} {self.seconds:.0f} s loss {loss:.3f}", flush=True
            )
            self.output.write_text(json.dumps(self.curve))
        self.started = time.perf_counter()


def segments(data: Any) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """(ids, labels) of every document of the validation set, shortest first."""
    found = []
    for start, end in zip(data["bounds"][:-1], data["bounds"][1:], strict=True):
        labels = torch.from_numpy(data["labels"][start:end])
        if (labels != IGNORED).any():
            found.append((torch.from_numpy(data["ids"][start:end]), labels))
    return sorted(found, key=lambda pair: len(pair[0]))


@torch.no_grad()
def score(model: Any, found: list[tuple[torch.Tensor, torch.Tensor]], is_bf16: bool) -> float:
    """Mean loss of the targets, every rank alone on all of them."""
    model.eval()
    total, count, start = 0.0, 0, 0
    while start < len(found):
        size = max(1, TOKENS_AT_ONCE // len(found[min(start + 8, len(found) - 1)][0]))
        part = found[start : start + size]
        start += size
        ids, labels = (
            torch.nn.utils.rnn.pad_sequence([pair[i] for pair in part], True, value)
            for i, value in ((0, 0), (1, IGNORED))
        )
        real = torch.nn.utils.rnn.pad_sequence([torch.ones_like(p[0]) for p in part], True, 0)
        with torch.autocast("cpu", torch.bfloat16, enabled=is_bf16):
            logits = model(input_ids=ids, attention_mask=real).logits
        wanted = labels != IGNORED
        total += torch.nn.functional.cross_entropy(
            logits[wanted].float(), labels[wanted], reduction="sum"
        ).item()
        count += int(wanted.sum())
    model.train()
    return total / count


def main() -> None:
    data_path, output, precision, batch, target, most_seconds, every = sys.argv[1:]
    data = np.load(data_path)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_file=str(Path(data_path).parent / "tokenizer/tokenizer.json"),
        unk_token="[UNK]",
        pad_token="[PAD]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
    )
    torch.manual_seed(0)
    shape = {name: int(value) for name, value in zip(data["names"], data["values"], strict=True)}
    model = BertForMaskedLM(
        BertConfig(**shape, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    )
    arguments = TrainingArguments(
        output_dir=os.path.join(tempfile.gettempdir(), "trainer-to-loss"),
        per_device_train_batch_size=int(batch),
        max_steps=100_000,
        use_cpu=True,
        bf16=precision == "bf16",
        report_to=[],
        save_strategy="no",
        logging_steps=100_000,
        learning_rate=1e-3,
        lr_scheduler_type="constant_with_warmup",
        warmup_steps=10,
        adam_beta2=0.98,
        adam_epsilon=1e-6,
        weight_decay=0.01,
        max_grad_norm=1.0,
        remove_unused_columns=False,
        disable_tqdm=True,
    )
    Trainer(
        model,
        arguments,
        train_dataset=Dataset.from_dict({"input_ids": data["rows"]}),
        data_collator=DataCollatorForLanguageModeling(tokenizer, mlm_probability=0.3),
        callbacks=[Scoring(data, Path(output), float(target), float(most_seconds), int(every))],
    ).train()


if __name__ == "__main__":
    main()
