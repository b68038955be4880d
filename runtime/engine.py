"""The DeepSpeed engine: joins recipe facts with engine policy, runs steps, saves and loads shards.

The only importer of deepspeed. A module given to `Engine` is an `nn.Module` around a transformers
model whose `forward(**inputs)` returns a tuple of tensors; the first is the loss *summed* over its
targets. Sums are divided by the targets of all ranks and micro batches of the step, so neither the
number of ranks nor gradient accumulation can change an update.

A ds_config holds engine policy only (stage, offload, buckets). One that repeats a fact of the
recipe (batch sizes, precision, optimizer, clipping) is refused: two places for one fact end up
different.
"""

import io
import json
import os
from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

os.environ.setdefault("DS_ACCELERATOR", "cuda" if Path("/dev/nvidiactl").exists() else "cpu")

import deepspeed
import torch
from deepspeed.checkpoint import ds_to_universal
from deepspeed.checkpoint.constants import (
    UNIVERSAL_CHECKPOINT_INFO,
    UNIVERSAL_CHECKPOINT_VERSION_KEY,
    UNIVERSAL_CHECKPOINT_VERSION_VALUE,
)
from deepspeed.runtime.fp16.loss_scaler import LossScaler
from deepspeed.runtime.zero.config import ZeroStageEnum
from deepspeed.utils import safe_get_full_fp32_param
from deepspeed.utils.tensor_fragment import fragment_address
from torch import Tensor, nn
from transformers.integrations import HfDeepSpeedConfig

from runtime import config, processes
from runtime.errors import RecipeError

Inputs = Mapping[str, Any]
# Facts of the recipe that a ds_config must not repeat.
RECIPE_FACTS = (
    "train_batch_size", "train_micro_batch_size_per_gpu", "gradient_accumulation_steps",
    "optimizer", "scheduler", "gradient_clipping", "fp16", "bf16", "torch_autocast", "data_types",
    "zero_allow_untested_optimizer", "wall_clock_breakdown", "steps_per_print", "checkpoint",
)  # fmt: skip
# The plain value classes inside DeepSpeed's shards that weights_only loading has to know.
SAFE_CLASSES = [ZeroStageEnum, LossScaler, fragment_address]


@dataclass(frozen=True)
class Batch:
    """Samples per optimizer step over all ranks, and samples per rank per forward."""

    global_size: int
    micro_size: int

    def accumulation(self, world_size: int) -> int:
        """Micro batches per rank and step. Raises RecipeError with the nearest values that fit."""
        portion = self.micro_size * world_size
        if self.global_size % portion:
            below = self.global_size // portion * portion
            nearest = f"{below} or {below + portion}" if below else str(portion)
            raise RecipeError(
                f"the global batch size ({self.global_size}) must be a multiple of the micro batch "
                f"size x world size = {self.micro_size} x {world_size} = {portion}; "
                f"nearest: {nearest}"
            )
        return self.global_size // portion


def read_ds_config(name: str) -> dict[str, Any]:
    """Read a ds_config by name (from ds_configs/) or path. Raises RecipeError if it cannot be
    used."""
    path = Path(name)
    if path.suffix != ".json":
        known = shipped_ds_configs()
        if name not in known:
            raise RecipeError(
                f"engine.ds_config {name!r} is neither a path ending in .json nor a name in "
                f"ds_configs/: {', '.join(sorted(known))}"
            )
        path = known[name]
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RecipeError(f"cannot read engine.ds_config {path}: {error.strerror}") from None
    except ValueError as error:
        raise RecipeError(f"engine.ds_config {path} is not valid JSON: {error}") from None
    repeated = [key for key in RECIPE_FACTS if key in found]
    if repeated:
        raise RecipeError(
            f"engine.ds_config {path} sets {', '.join(repeated)}, which the recipe decides; "
            "remove them there and set [train], [optimizer] or [engine] in the recipe"
        )
    return dict(found)


def shipped_ds_configs() -> dict[str, Path]:
    """The files of ds_configs/ by name, wherever Textmill is installed."""
    spec = find_spec("ds_configs")  # a folder without code: importlib.resources fails on some
    folders = spec.submodule_search_locations if spec is not None else None
    return {path.stem: path for folder in folders or () for path in Path(folder).glob("*.json")}


def join_config(table: config.Engine, clip_norm: float, batch: Batch, world: int) -> dict[str, Any]:
    """The complete DeepSpeed configuration: policy from the file, facts from the recipe."""
    accumulation = batch.accumulation(world)
    policy = read_ds_config(table.ds_config)
    if table.precision == "bf16" and stage_of(policy) == 0:
        raise RecipeError(
            f'engine.precision = "bf16" does not go with ZeRO stage 0 ({table.ds_config}): '
            "DeepSpeed then uses its loss-scaling fp16 optimizer, which was seen to train "
            'differently from stages 1 to 3; set engine.ds_config = "zero1", or precision = "fp32"'
        )
    return {
        **policy,
        "train_batch_size": batch.global_size,
        "train_micro_batch_size_per_gpu": batch.micro_size,
        "gradient_accumulation_steps": accumulation,
        "gradient_clipping": clip_norm,
        "bf16": {"enabled": table.precision == "bf16"},
        "zero_allow_untested_optimizer": True,
        "steps_per_print": 1 << 60,
    }


def stage_of(policy: Mapping[str, Any]) -> int:
    """The ZeRO stage a ds_config asks for."""
    return int(policy.get("zero_optimization", {}).get("stage", 0))


def start_communication() -> None:
    """Let DeepSpeed use the process group that is already there, without compiling anything."""
    # Private, pinned by range: marks the CPU shared-memory collective as absent. It would be
    # compiled for half a minute and serves only inference_all_reduce.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    deepspeed.init_distributed(processes.backend(), auto_mpi_discovery=False, verbose=False)


class Engine:
    """One model under DeepSpeed. Every method is called by all ranks."""

    def __init__(
        self,
        make_module: Callable[[], nn.Module],
        table: config.Engine,
        optimizer: config.Optimizer,
        batch: Batch,
        seed: int,
    ) -> None:
        world = processes.world_size()
        self.accumulation = batch.accumulation(world)
        joined = join_config(table, optimizer.clip_norm, batch, world)
        self.stage = stage_of(joined)
        start_communication()
        torch.manual_seed(seed)
        # Under ZeRO-3 transformers builds the model in shards as long as this object is alive.
        self._hf_config = HfDeepSpeedConfig(joined) if self.stage == 3 else None
        module = make_module()
        adamw = torch.optim.AdamW(
            parameter_groups(module, optimizer.weight_decay),
            lr=optimizer.learning_rate,
            betas=optimizer.betas,
            eps=optimizer.eps,
            fused=True,
        )
        self._engine: Any = deepspeed.initialize(model=module, optimizer=adamw, config=joined)[0]
        self.device = self._engine.device
        self._micro_batches_done = 0
        # Ranks see different samples, so they draw different dropout masks.
        torch.manual_seed(seed + 1 + processes.rank())

    @property
    def module(self) -> nn.Module:
        """The module as it was made; its parameters may be sharded."""
        return self._engine.module  # type: ignore[no-any-return]

    def begin_step(self, num_micro_batches: int) -> None:
        """Say how many micro batches this rank runs before the next update."""
        if num_micro_batches != self.accumulation:  # STUB: batch ramps change it
            raise AssertionError(f"{num_micro_batches} micro batches, expected {self.accumulation}")

    def take_seconds(self) -> dict[str, float]:
        """Seconds spent in forward, backward, communication and optimizer since the last call."""
        return {}

    def accumulate(self, inputs: Inputs, num_targets: float) -> Tensor:
        """Forward and backward of one micro batch; returns its summed loss, detached.

        `num_targets` counts the targets of all ranks and micro batches of this step.
        """
        self._engine.train()
        loss_sum = self._engine(**self.to_device(inputs))[0]
        # Cancels DeepSpeed's average over micro batches and ranks.
        scale = self.accumulation * processes.world_size() / num_targets
        self._engine.backward(loss_sum * scale)
        self._micro_batches_done += 1
        if self._micro_batches_done < self.accumulation:
            self._engine.step()  # counts the micro batch; nothing is updated yet
        return loss_sum.detach()  # type: ignore[no-any-return]

    def step(
        self, learning_rate: float, accepts: Callable[[float], bool] = lambda norm: True
    ) -> float:
        """Update the parameters from the accumulated gradients; returns the gradient norm before
        clipping.

        `accepts(norm)` is asked once, with the same norm on all ranks; if it says no, neither
        parameters nor optimizer states change and the gradients are dropped.
        """
        if self._micro_batches_done != self.accumulation:
            raise AssertionError(f"{self._micro_batches_done} of {self.accumulation} micro batches")
        for group in self._engine.optimizer.param_groups:
            group["lr"] = learning_rate
        norm = self.gradient_norm() if self.stage == 0 else None  # DeepSpeed forgets it there
        self._engine.step()
        self._micro_batches_done = 0
        return float(self._engine.get_global_grad_norm() if norm is None else norm)

    def gradient_norm(self) -> float:
        """Global norm of unsharded, already averaged gradients."""
        gradients = [p.grad for p in self.module.parameters() if p.grad is not None]
        return float(torch.nn.utils.get_total_norm(gradients))

    @torch.no_grad()
    def evaluate(self, inputs: Inputs) -> tuple[Tensor, ...]:
        """Forward without gradients in evaluation mode: what the module returns."""
        self._engine.eval()
        return tuple(self._engine(**self.to_device(inputs)))

    def to_device(self, inputs: Inputs) -> dict[str, Any]:
        return {
            name: value.to(self.device, non_blocking=True) if hasattr(value, "to") else value
            for name, value in inputs.items()
        }

    def full_parameters(self) -> dict[str, Tensor] | None:
        """Every parameter in fp32 by name, on rank 0 (None elsewhere)."""
        found: dict[str, Tensor] = {}
        for name, parameter in self.module.named_parameters():
            whole = safe_get_full_fp32_param(parameter)
            whole = parameter.detach() if whole is None else whole
            if processes.rank() == 0:
                found[name] = whole.reshape(full_shape(parameter)).float().cpu().clone()
        if processes.rank() != 0:
            return None
        for name, buffer in self.module.state_dict().items():
            if name not in found and not hasattr(buffer, "ds_id") and buffer.numel():
                found[name] = buffer.detach().cpu().clone()
        return found

    def num_parameters(self) -> int:
        """Parameters of the whole model, shared ones counted once."""
        return sum(full_shape(parameter).numel() for parameter in self.module.parameters())

    def save_shards(self, folder: Path) -> None:
        """Write this engine's shards into `folder`; DeepSpeed's own `latest` is never written."""
        # Without this key a checkpoint of stage 1 or 2 cannot be converted for other world sizes.
        client_state = {
            UNIVERSAL_CHECKPOINT_INFO: {
                UNIVERSAL_CHECKPOINT_VERSION_KEY: UNIVERSAL_CHECKPOINT_VERSION_VALUE
            }
        }
        self._engine.save_checkpoint(
            str(folder.parent), tag=folder.name, client_state=client_state, save_latest=False
        )
        if processes.rank() == 0:
            for script in ("zero_to_fp32.py", "zero_to_torch.py"):  # copies that unpickle anything
                (folder.parent / script).unlink(missing_ok=True)

    def load_shards(self, folder: Path, is_universal: bool) -> None:
        """Load shards saved by the same number of ranks, or a universal checkpoint from any."""
        self._engine._config.load_universal_checkpoint = is_universal
        with safe_unpickling():
            self._engine.load_checkpoint(str(folder.parent), tag=folder.name)
        self._engine._config.load_universal_checkpoint = False


def parameter_groups(module: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Matrices are decayed; norms, biases and other vectors are not."""
    decayed = [p for p in module.parameters() if len(full_shape(p)) >= 2]
    plain = [p for p in module.parameters() if len(full_shape(p)) < 2]
    groups = [
        {"params": decayed, "weight_decay": weight_decay},
        {"params": plain, "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def full_shape(parameter: nn.Parameter) -> torch.Size:
    """The shape of a parameter whether or not ZeRO-3 has sharded it."""
    return torch.Size(getattr(parameter, "ds_shape", parameter.shape))


@contextmanager
def safe_unpickling() -> Iterator[None]:
    """Every torch.load inside reads tensors and plain values only, whatever DeepSpeed asks for."""
    torch.serialization.add_safe_globals(SAFE_CLASSES)
    os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"] = "1"
    try:
        yield
    finally:
        del os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"]


def convert_to_universal(source: Path, target: Path) -> None:
    """Rewrite a checkpoint so that any number of ranks can load it. One process calls it."""
    arguments = Namespace(
        input_folder=str(source),
        output_folder=str(target),
        num_extract_workers=1,
        num_merge_workers=1,
        keep_temp_folder=False,
        strict=True,
        inject_missing_state=False,
    )
    with safe_unpickling(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        ds_to_universal.main(arguments)
