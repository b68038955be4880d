"""The recipe tables that belong to no single stage, and the part of the recipe every command sees.

Kept apart from the code that uses them because that code imports torch, and checking a recipe must
not. Each package extends `Recipe` with its own tables: data_prep, then pretrain, then finetune (the
complete schema).
"""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from runtime.recipe import RecipeTable
from runtime.slurm import SlurmJobs

Share = Annotated[float, Field(ge=0.0, le=1.0)]
Positive = Annotated[int, Field(gt=0)]
PositiveFloat = Annotated[float, Field(gt=0.0)]


class Engine(RecipeTable):
    """How the DeepSpeed engine runs the model."""

    ds_config: str = (
        "cpu"  # name in ds_configs/ or a path: engine policy only (stage, offload, buckets)
    )
    precision: Literal["fp32", "bf16"] = (
        "bf16"  # of parameters in the forward pass; the optimizer keeps fp32
    )
    collective_timeout_seconds: Positive = 1800  # a collective that waits longer ends the run
    threads_per_rank: int | None = (
        None  # CPU threads of a rank; None: cores divided by ranks on the machine
    )
    activation_checkpointing: bool = False  # compute layers again in backward: less memory, slower
    compile: bool = False  # torch.compile the encoder; pays on GPUs, below ZeRO stage 3
    deterministic: bool = False  # CUDA: the same bits each time, resumed or not; slower
    peak_tflops: PositiveFloat | None = None  # of one device, for MFU; None: measured at the start


class Optimizer(RecipeTable):
    """How gradients become updates; norms and biases are not decayed."""

    name: Literal["adamw", "stable_adamw", "muon"] = "adamw"  # muon: matrices only, the rest AdamW
    learning_rate: PositiveFloat = 1e-3  # peak
    muon_learning_rate: PositiveFloat = 0.02  # muon: peak, of the matrices it updates
    muon_momentum: Share = 0.95  # muon: Nesterov momentum a step
    betas: tuple[float, float] = (0.9, 0.98)  # decay of the first and second moments a step
    eps: PositiveFloat = 1e-6  # added to the root of the second moment
    weight_decay: float = Field(default=0.01, ge=0.0)  # of matrices, times the learning rate
    clip_norm: float = Field(
        default=1.0, ge=0.0
    )  # largest global gradient norm; 0 switches clipping off


class Schedule(RecipeTable):
    """Learning rate as a share of the peak, as a function of the tokens seen."""

    shape: Literal["wsd", "cosine", "linear", "constant"] = "wsd"  # after the warm-up
    warmup_share: Share = 0.02  # of all tokens: rises linearly from 0
    decay_share: Share = 0.2  # of all tokens, at the end: wsd only, falls as 1 - sqrt
    final_share: Share = 0.0  # of the peak, reached at the last token

    @model_validator(mode="after")
    def shares_fit(self) -> Self:
        if self.shape == "wsd" and self.warmup_share + self.decay_share > 1:
            raise ValueError(
                f"warmup_share ({self.warmup_share}) + decay_share ({self.decay_share}) "
                "must not exceed 1"
            )
        return self


class Checkpoint(RecipeTable):
    """When checkpoints are written and which are kept."""

    interval_steps: Positive = 500  # a checkpoint is also written at the end and on request
    keep_last: Positive = 2  # newest checkpoints that stay
    keep_best: bool = True  # also keep the one with the best validation result
    keep_every_steps: int | None = Field(default=None, gt=0)  # also keep every n-th for good


class Track(RecipeTable):
    """What is logged and how often."""

    interval_steps: Positive = 10  # console line, metrics.jsonl, TensorBoard


SbatchOption = Annotated[str, Field(pattern=r"^[a-z][a-z-]*$")]  # a long option's name


class Slurm(RecipeTable):
    """What the SLURM executor asks of the cluster for each worker (one array task)."""

    partition: str | None = None  # None: the cluster's default
    account: str | None = None  # None: the user's default
    time_minutes: int | None = Field(default=None, gt=0)  # of a task; None: the partition's limit
    memory_mb: int | None = Field(default=None, gt=0)  # of a worker; None: the cluster's default
    cpus_per_worker: Positive = 1  # asked for each array task
    options: dict[SbatchOption, str] = Field(default={})  # other long options of sbatch


class Launch(RecipeTable):
    """How many processes run a stage and who starts them."""

    launcher: Literal["local", "deepspeed", "slurm"] = "local"  # who starts the ranks
    ranks: Positive = 1  # training processes on this machine (local launcher only)
    hostfile: Path | None = None  # for the deepspeed launcher; None: `hostfile`
    environment_file: Path | None = (
        None  # variables for its ranks; None: `.deepspeed_env` at home and in the working folder
    )
    restarts: int = Field(
        default=0, ge=0
    )  # times that a stage which lost a rank is started again by itself, from its last checkpoint
    executor: Literal["local", "slurm", "ray"] = "local"  # who runs the units of data preparation
    workers: int | None = Field(
        default=None, gt=0
    )  # data processes; None: one a core (local) or a CPU of the cluster (ray)
    ray_address: str | None = None  # of a Ray cluster, or "auto"; None: one of our own, here
    slurm: Slurm = Slurm()

    @model_validator(mode="after")
    def slurm_is_told_how_many(self) -> Self:
        if self.executor == "slurm" and self.workers is None:
            raise ValueError(
                'executor = "slurm" needs `workers`: the number of array tasks that run at once'
            )
        return self


class Watchdog(RecipeTable):
    """When a run is ended that has lost a rank or stands still."""

    enabled: bool = True  # false: only the time-out of the collectives ends a run that hangs
    min_seconds: Positive = 20  # in which it ends; more if steps are slow
    p99_factor: PositiveFloat = 3.0  # of the 99th percentile of a step: then that is the limit


class Recipe(RecipeTable):
    """What every command reads from a recipe."""

    name: str  # of the pipeline; appears in logs and reports
    output: Path  # folder: data/, pretrain/, finetune/ and report.html go below it
    seed: int = 0  # of every random choice
    engine: Engine = Engine()
    optimizer: Optimizer = Optimizer()
    schedule: Schedule = Schedule()
    checkpoint: Checkpoint = Checkpoint()
    track: Track = Track()
    watchdog: Watchdog = Watchdog()
    launch: Launch = Launch()
    slurm: SlurmJobs = SlurmJobs()
