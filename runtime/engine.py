"""The DeepSpeed engine: runs steps, saves and loads shards.

The only importer of deepspeed. A module given to `Engine` is an `nn.Module` around a transformers
model whose `forward(**inputs)` returns a tuple of tensors; the first is the loss *summed* over its
targets. Sums are divided by the targets of all ranks and micro batches of the step, so neither the
number of ranks nor gradient accumulation can change an update.
"""

import io
import os
from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from functools import partial
from pathlib import Path
from typing import Any

import torch

# Read by DeepSpeed when it is imported: else it takes a GPU that this build of torch cannot use.
os.environ.setdefault("DS_ACCELERATOR", "cuda" if torch.cuda.is_available() else "cpu")

import deepspeed
from deepspeed.checkpoint import ds_to_universal
from deepspeed.checkpoint.constants import (
    UNIVERSAL_CHECKPOINT_INFO,
    UNIVERSAL_CHECKPOINT_VERSION_KEY,
    UNIVERSAL_CHECKPOINT_VERSION_VALUE,
)
from deepspeed.runtime.fp16.loss_scaler import LossScaler
from deepspeed.runtime.zero.config import ZeroStageEnum
from deepspeed.utils import safe_get_full_fp32_param, set_z3_leaf_modules
from deepspeed.utils.tensor_fragment import fragment_address
from torch import Tensor, nn
from transformers.integrations import HfDeepSpeedConfig

from runtime import config, processes
from runtime.allocator import keep_freed_memory
from runtime.collectives import TimedBackend, Timer
from runtime.ds_config import Batch as Batch
from runtime.ds_config import join_config, stage_of
from runtime.optimizers.adamw import AdamW
from runtime.optimizers.gate import Gate
from runtime.optimizers.groups import full_shape as full_shape
from runtime.optimizers.groups import parameter_groups
from runtime.optimizers.muon import Muon
from runtime.optimizers.sharded import Rule, Sharded
from runtime.optimizers.stable_adamw import StableAdamW
from runtime.partitions import layout_of, masters
from runtime.stopwatch import Stopwatch
from runtime.unsharded_bf16 import Update
from runtime.watchdog.activity import START, activity

Inputs = Mapping[str, Any]
# The plain value classes inside DeepSpeed's shards that weights_only loading has to know.
SAFE_CLASSES = [ZeroStageEnum, LossScaler, fragment_address]


def start_communication(timer: Timer) -> None:
    """Let DeepSpeed use the process group that is already there, without compiling anything.

    From now on all collectives of this process run inside the timer.
    """
    activity.begin(START)
    # Private, pinned by range: marks the CPU shared-memory collective as absent. It would be
    # compiled for half a minute and serves only inference_all_reduce.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    deepspeed.init_distributed(processes.backend(), auto_mpi_discovery=False, verbose=False)
    # Private, pinned by range: every collective of DeepSpeed goes through this object.
    backend = deepspeed.comm.comm.cdb
    backend = backend.backend if isinstance(backend, TimedBackend) else backend
    deepspeed.comm.comm.cdb = TimedBackend(backend, timer)
    processes.time_collectives(timer)


def settle(device: torch.device, is_deterministic: bool) -> None:
    """Have the allocator and torch work as training wants it, for the whole process.

    Deterministic kernels give the same bits each time; on CUDA they are slower, on CPU there are no
    others among those that a run uses.
    """
    if device.type == "cpu":
        keep_freed_memory()
    if is_deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read at the first product
        # A pass over all memory that is taken, which no kernel of ours reads before it writes.
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
        torch.use_deterministic_algorithms(True)


def gather_layers_whole(module: nn.Module) -> None:
    """Have ZeRO-3 gather each repeated layer at once, not matrix by matrix: fewer hooks and
    collectives; the memory of one layer is little beside its activations."""
    lists = [child for child in module.modules() if isinstance(child, nn.ModuleList)]
    layers = {type(layer) for layers in lists for layer in layers}
    if layers:
        set_z3_leaf_modules(module, list(layers))


def cast_what_is_whole(module: nn.Module) -> None:
    """Give parameters of our own (a CRF's) the type of those that transformers made in shards, as
    DeepSpeed does where it casts: ZeRO-3 refuses two types."""
    for parameter in module.parameters():
        if not hasattr(parameter, "ds_id"):
            parameter.data = parameter.data.to(torch.bfloat16)


class Engine:
    """One model under DeepSpeed. Every method is called by all ranks."""

    def __init__(
        self,
        make_module: Callable[[], nn.Module],
        table: config.Engine,
        optimizer: config.Optimizer,
        batch: Batch,
        seed: int,
        rate_of: Callable[[str], float] = lambda name: 1.0,
    ) -> None:
        world = processes.world_size()
        self.accumulation = batch.accumulation(world)  # micro batches a step, unless it says else
        joined = join_config(table, optimizer.clip_norm, batch, world)
        self.stage = stage_of(joined)
        # DeepSpeed wraps the optimizer unless there is nothing to shard or to cast.
        self._is_wrapped = self.stage > 0 or table.precision == "bf16"
        self._clip_norm = optimizer.clip_norm
        self._stopwatch = Stopwatch(processes.device())
        settle(self._stopwatch.device, table.deterministic)
        start_communication(partial(self._stopwatch.part, "communication"))
        torch.manual_seed(seed)
        # Under ZeRO-3 transformers builds models in shards as long as this object is alive: this
        # one, and no other that a task or a probe of this process may load later.
        in_shards = HfDeepSpeedConfig(joined) if self.stage == 3 else None
        module = make_module()
        del in_shards
        if self.stage == 3:
            gather_layers_whole(module)
            if table.precision == "bf16":
                cast_what_is_whole(module)
        self._gate = Gate(self.gradient_norm)
        rules: dict[str, Rule] = {
            "adamw": AdamW(),
            "stable_adamw": StableAdamW(),
            "muon": Muon(torch.bfloat16 if table.precision == "bf16" else torch.float32),
        }
        inner = Sharded(parameter_groups(module, optimizer, rate_of), rules, self._gate)
        # Each group follows the schedule at its own height, and keeps what the recipe says.
        self._heights = [group["lr"] / optimizer.learning_rate for group in inner.param_groups]
        self._hyperparameters = [
            {name: value for name, value in group.items() if name != "params"}
            for group in inner.param_groups
        ]
        self._engine: Any = deepspeed.initialize(model=module, optimizer=inner, config=joined)[0]
        inner.layout = layout_of(self._engine.optimizer, module, self.stage)
        if self.stage == 0 and world == 1:  # DeepSpeed would copy all gradients there and back
            self._engine.enable_backward_allreduce = False
        if self.stage == 0 and self._is_wrapped:
            wrapper = self._engine.optimizer
            wrapper.step = Update(wrapper, optimizer.clip_norm, self._gate.is_open)
        self._write = self._engine.checkpoint_engine.save
        self._write_error: OSError | RuntimeError | None = None
        self._engine.checkpoint_engine.save = self._write_or_remember
        self._engine._copy_recovery_script = lambda path: None  # scripts that unpickle anything
        self.device = self._engine.device
        self._micro_size = batch.micro_size
        self._micro_batches_done = 0
        self._num_micro_batches = self.accumulation
        # Ranks see different samples, so they draw different dropout masks.
        torch.manual_seed(seed + 1 + processes.rank())

    @property
    def module(self) -> nn.Module:
        """The module as it was made; its parameters may be sharded."""
        return self._engine.module  # type: ignore[no-any-return]

    def begin_step(self, num_micro_batches: int) -> None:
        """Say how many micro batches each rank runs before the next update; else as many as
        before."""
        if self._micro_batches_done:
            raise AssertionError(f"{self._micro_batches_done} micro batches wait for their step")
        self._num_micro_batches = num_micro_batches
        world = processes.world_size()
        self._engine.set_train_batch_size(num_micro_batches * self._micro_size * world)
        self._stopwatch.start()

    def take_seconds(self) -> dict[str, float]:
        """Seconds of this rank in forward, backward, communication and optimizer.

        Counts what has happened from `begin_step` until the first call after it; nothing twice.
        """
        activity.end_step()
        return self._stopwatch.take()

    def accumulate(self, inputs: Inputs, num_targets: float) -> Tensor:
        """Forward and backward of one micro batch; returns its summed loss, detached.

        `num_targets` counts the targets of all ranks and micro batches of this step.
        """
        is_last = self._micro_batches_done + 1 == self._num_micro_batches
        # DeepSpeed counts micro batches over the whole run, which a changing number would upset.
        self._engine.set_gradient_accumulation_boundary(is_last)
        self._engine.train()
        with self._stopwatch.part("forward"):
            loss_sum = self._engine(**self.to_device(inputs))[0]
        # Cancels DeepSpeed's average over micro batches and ranks.
        scale = self._num_micro_batches * processes.world_size() / num_targets
        with self._stopwatch.part("backward"):
            self._engine.backward(loss_sum * scale)
        self._micro_batches_done += 1
        if not is_last:
            self._engine.step()  # counts the micro batch; nothing is updated yet
        return loss_sum.detach()  # type: ignore[no-any-return]

    def step(
        self, learning_rate: float, accepts: Callable[[float], bool] = lambda norm: True
    ) -> float:
        """Update the parameters from the accumulated gradients; returns the gradient norm before
        clipping.

        `accepts(norm)` is asked once, with the same norm on all ranks (inf or nan if gradients
        are not finite); if it says no, or the norm is not finite, neither parameters nor optimizer
        states change and the gradients are dropped.
        """
        if self._micro_batches_done != self._num_micro_batches:
            raise AssertionError(
                f"{self._micro_batches_done} of {self._num_micro_batches} micro batches"
            )
        groups = self._engine.optimizer.param_groups
        for group, height in zip(groups, self._heights, strict=True):
            group["lr"] = learning_rate * height
        self._gate.begin(accepts)
        with self._stopwatch.part("optimizer"):
            self.update()
        self._micro_batches_done = 0
        assert self._gate.norm is not None
        return self._gate.norm

    def update(self) -> None:
        """Have DeepSpeed compute the norm, ask the gate, clip and update; drop the gradients."""
        if not self._is_wrapped and self._gate.is_open() and self._clip_norm:
            assert self._gate.norm is not None
            if self._gate.norm > 0.99 * self._clip_norm:  # below, all would be multiplied by 1
                parameters = list(self.module.parameters())
                norm = torch.tensor(self._gate.norm, device=self.device)
                torch.nn.utils.clip_grads_with_norm_(parameters, self._clip_norm, norm)
        self._engine.step()
        self._gate.is_open()  # DeepSpeed gives up by itself before it asks if the norm is invalid

    def gradient_norm(self) -> float:
        """Global norm of the averaged gradients of this step, before clipping."""
        if self._is_wrapped:
            return float(self._engine.optimizer._global_grad_norm)  # private: set before updates
        gradients = [p.grad for p in self.module.parameters() if p.grad is not None]
        return processes.from_rank_0(float(torch.nn.utils.get_total_norm(gradients)))

    @torch.no_grad()
    def evaluate(self, inputs: Inputs) -> tuple[Tensor, ...]:
        """Forward without gradients in evaluation mode: what the module returns."""
        self._engine.eval()
        with self._stopwatch.part("forward"):
            return tuple(self._engine(**self.to_device(inputs)))

    def to_device(self, inputs: Inputs) -> dict[str, Any]:
        return {
            name: value.to(self.device, non_blocking=True) if hasattr(value, "to") else value
            for name, value in inputs.items()
        }

    def full_parameters(self) -> dict[str, Tensor] | None:
        """Every parameter in fp32 by name, on rank 0 (None elsewhere)."""
        found: dict[str, Tensor] = {}
        unsharded = masters(self._engine.optimizer) if self.stage == 0 else []
        originals = {id(parameter): tensor for parameter, tensor in unsharded}
        for name, parameter in self.module.named_parameters():
            whole = originals.get(id(parameter))
            whole = safe_get_full_fp32_param(parameter) if whole is None else whole
            if processes.rank() == 0:
                found[name] = whole.detach().reshape(full_shape(parameter)).float().cpu().clone()
        if processes.rank() != 0:
            return None
        names = {name for name, _ in self.module.named_parameters(remove_duplicate=False)}
        for name, buffer in self.module.state_dict().items():
            if name not in names:  # tied ones are parameters, whatever ZeRO-3 left gathered
                found[name] = buffer.detach().cpu().clone()
        return found

    @torch.no_grad()
    def whole_parameters(self, part: nn.Module) -> dict[str, Tensor]:
        """The parameters of a part of the module as the forward sees them, by name, whole, on
        every rank."""
        parameters = dict(part.named_parameters())
        with deepspeed.zero.GatheredParameters(list(parameters.values())):
            return {name: value.detach().cpu().clone() for name, value in parameters.items()}

    @torch.no_grad()
    def show_parameters(self, values: Mapping[str, Tensor] | None) -> None:
        """Forward with these weights, named as by `full_parameters`, until the next load.

        Those of rank 0 count. The optimizer keeps its own and would bring them back: for evaluation
        only.
        """
        for name, parameter in self.module.named_parameters():
            value = processes.from_rank_0(None if values is None else values[name])
            with deepspeed.zero.GatheredParameters([parameter], modifier_rank=0):
                if value is not None and parameter.numel():
                    parameter.copy_(value.view_as(parameter))

    def num_parameters(self) -> int:
        """Parameters of the whole model, shared ones counted once."""
        return sum(full_shape(parameter).numel() for parameter in self.module.parameters())

    def save_shards(self, folder: Path) -> None:
        """Write this engine's shards into `folder`; DeepSpeed's own `latest` is never written.

        A failed write raises on the rank it failed on, after all ranks have come through
        DeepSpeed's barriers: the caller makes them agree.
        """
        # Without this key a checkpoint of stage 1 or 2 cannot be converted for other world sizes.
        client_state = {
            UNIVERSAL_CHECKPOINT_INFO: {
                UNIVERSAL_CHECKPOINT_VERSION_KEY: UNIVERSAL_CHECKPOINT_VERSION_VALUE
            }
        }
        self._engine.save_checkpoint(
            str(folder.parent), tag=folder.name, client_state=client_state, save_latest=False
        )
        error, self._write_error = self._write_error, None
        if error is not None:
            raise error

    def _write_or_remember(self, state_dict: Any, path: str) -> None:
        """Write one file of shards; a failure waits until no rank waits for this one."""
        try:
            self._write(state_dict, path)
        except (OSError, RuntimeError) as error:
            self._write_error = error

    def load_shards(self, folder: Path, is_universal: bool) -> None:
        """Load shards saved by the same number of ranks, or a universal checkpoint from any."""
        self._engine._config.load_universal_checkpoint = is_universal
        with safe_unpickling():
            self._engine.load_checkpoint(str(folder.parent), tag=folder.name)
        self._engine._config.load_universal_checkpoint = False
        # A universal checkpoint of stage 3 gives every group what the first one had.
        groups = self._engine.optimizer.param_groups
        for group, hyperparameters in zip(groups, self._hyperparameters, strict=True):
            group.update(hyperparameters)
        # It also gives all parameters one tensor of steps, which each of them then counts up.
        if is_universal:
            for state in self._engine.optimizer.optimizer.state.values():
                if isinstance(state.get("step"), Tensor):
                    state["step"] = state["step"].clone()


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
