"""The loop that DeepSpeed's documentation shows, for benchmarks/reliability_vs_deepspeed.py.

python plain_deepspeed.py STEPS SAVE_EVERY      (as a rank, in the folder of the run)
"""

import hashlib
import os
import sys
from pathlib import Path

import deepspeed
import torch
from torch import nn

CONFIG = {
    "train_micro_batch_size_per_gpu": 4,
    "zero_optimization": {"stage": 2},
    "zero_allow_untested_optimizer": True,
}


def main() -> None:
    steps, save_every = map(int, sys.argv[1:])
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 256), nn.GELU(), nn.Linear(256, 64))
    deepspeed.init_distributed(dist_backend="gloo")
    engine, *_ = deepspeed.initialize(
        model=model, optimizer=torch.optim.AdamW(model.parameters(), lr=1e-3), config=CONFIG
    )
    path, state = engine.load_checkpoint("checkpoints")
    first = 0 if path is None else int(state["step"])
    if engine.global_rank == 0:
        print(f"begins at step {first}", flush=True)
    for step in range(first + 1, steps + 1):
        rng = torch.Generator().manual_seed(1000 * step + engine.global_rank)
        inputs = torch.randn(4, 64, generator=rng)
        loss = (engine(inputs) - inputs.roll(1, dims=1)).square().mean()
        engine.backward(loss)
        engine.step()
        if step % save_every == 0:
            engine.save_checkpoint("checkpoints", client_state={"step": step})
    if engine.global_rank == 0:
        content = b"".join(p.detach().numpy().tobytes() for p in model.parameters())
        Path("weights.sha256").write_text(hashlib.sha256(content).hexdigest())
    deepspeed.comm.barrier()
    os._exit(0)


if __name__ == "__main__":
    main()
