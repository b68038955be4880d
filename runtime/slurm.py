"""The `[slurm]` table: what `textmill run --launcher slurm` asks of the cluster for each stage.

Every value ends up in a batch file, so what it may hold is narrow: names by the grammar of SLURM,
no control characters anywhere, and no option of sbatch that would break the chain of jobs.
"""

import re
from collections.abc import Callable
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from runtime.recipe import RecipeTable

NAME = r"[A-Za-z0-9_][A-Za-z0-9_.+-]*"
OURS = frozenset(
    {"array", "chdir", "clusters", "dependency", "error", "export", "export-file", "get-user-env",
     "input", "job-name", "kill-on-invalid-dep", "no-requeue", "ntasks", "open-mode", "output",
     "parsable", "requeue", "signal", "test-only", "wait", "wrap"}
)  # options of sbatch that the chain of jobs depends on  # fmt: skip
FIELD_OF = {
    "account": "account",
    "constraint": "constraint",
    "cpus-per-task": "cpus_per_rank",
    "exclusive": "exclusive",
    "gpus-per-node": "gpus_per_node",
    "mail-type": "mail_type",
    "mail-user": "mail_user",
    "mem": "memory_mb",
    "nodes": "nodes",
    "ntasks-per-node": "ranks_per_node",
    "partition": "partition",
    "qos": "qos",
    "reservation": "reservation",
    "time": "minutes",
}  # options of sbatch that have a field of their own
MAX_WARN_SECONDS = 65535  # of sbatch's --signal


def matching(pattern: str, what: str) -> AfterValidator:
    """A validator of a string that must match a pattern whole; `what` names it for people."""
    return AfterValidator(checker(pattern, what))


def checker(pattern: str, what: str) -> Callable[[str], str]:
    found = re.compile(pattern)

    def check(value: str) -> str:
        if not found.fullmatch(value):
            raise ValueError(f"is not {what}")
        return value

    return check


def printable(value: str) -> str:
    """Refuse what would end a line or hide in it."""
    if not value.isprintable():
        raise ValueError("holds a line break or another character that cannot be printed")
    return value


Positive = Annotated[int, Field(gt=0)]
Name = Annotated[str, matching(NAME, "a name of SLURM: letters, digits and . _ + -")]
Names = Annotated[
    str, matching(rf"{NAME}(,{NAME})*", "a name of SLURM, or several with commas between them")
]
Constraint = Annotated[
    str,
    matching(r"[A-Za-z0-9_][A-Za-z0-9_.+&|*,:-]*|\[[A-Za-z0-9_.+&|*,:-]+\]", "a constraint"),
]
Mail = Annotated[
    str, matching(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*(@[A-Za-z0-9.-]+)?", "an address of a person")
]
Option = Annotated[str, matching(r"[a-z][a-z0-9-]*", "the name of a long option of sbatch")]
Line = Annotated[str, AfterValidator(printable)]
Value = Annotated[str, AfterValidator(printable)] | int | bool
MAIL = Literal["BEGIN", "END", "FAIL", "REQUEUE", "TIME_LIMIT", "TIME_LIMIT_90", "ALL"]


class Minutes(RecipeTable):
    """Time limits of the jobs in minutes; where none is given the partition's holds."""

    data_prep: Positive | None = None  # one start of the job, which queues itself again
    pretrain: Positive | None = None  # one start of the job, which queues itself again
    finetune: Positive | None = None  # one start of the job, which queues itself again
    evaluate: Positive | None = 30  # the page about the run


class Container(RecipeTable):
    """The container that stages run in; the working folder and `output` are mounted in it."""

    kind: Literal["pyxis", "apptainer"]  # options of srun; the command apptainer on each node
    image: Annotated[
        str,
        matching(r"[A-Za-z0-9/_.][^\s'\"\\`$;&|<>,]*", "the name of an image or its path"),
        AfterValidator(printable),
    ]  # as enroot or apptainer takes it
    mounts: tuple[
        Annotated[
            str,
            matching(r"/[^,:]*(:/[^,:]*(:[a-z+]+)?)?", "FOLDER or FOLDER:INSIDE[:ro], both from /"),
            AfterValidator(printable),
        ],
        ...,
    ] = ()  # FOLDER or FOLDER:INSIDE[:ro], beside those two


class SlurmJobs(RecipeTable):
    """The jobs that `launch.launcher = "slurm"` makes of the stages."""

    partition: Names | None = None  # None: the cluster's default
    cpu_partition: Names | None = None  # of data_prep and evaluate; None: `partition`
    account: Name | None = None  # None: the user's default
    qos: Name | None = None  # quality of service; None: the user's default
    reservation: Names | None = None  # None: none
    constraint: Constraint | None = None  # features of the nodes that train, such as `a100&ib`
    nodes: Positive = 1  # machines of a job that trains
    gpus_per_node: int = Field(default=0, ge=0)  # 0: training on CPUs
    gpu_type: Name | None = None  # as the cluster calls it, for example `a100`; None: any
    ranks_per_node: Positive | None = None  # None: one a GPU; without GPUs one
    cpus_per_rank: Positive = 1  # also the threads of a rank where the recipe sets none
    memory_mb: Positive | None = None  # of a node that trains; None: the cluster's default
    data_prep_cpus: Positive = 1  # of that job; also its workers where `launch.workers` is not set
    data_prep_memory_mb: Positive | None = None  # None: the cluster's default
    finetune_at_once: Positive | None = (
        None  # tasks of the fine-tuning array that run at the same time; None: all
    )
    exclusive: bool = False  # nodes that train are shared with no other job
    minutes: Minutes = Minutes()  # time limits
    warn_seconds: Annotated[int, Field(gt=0, le=MAX_WARN_SECONDS)] = (
        120  # before its time limit a job is told to save and to queue itself again
    )
    requeues: int = Field(
        default=100, ge=0
    )  # times that a job starts again after its time limit or a preemption; then it fails
    mail_user: Mail | None = None  # None: no mail
    mail_type: tuple[MAIL, ...] = ("END", "FAIL")  # what mail is sent about, if to anybody
    setup: tuple[Line, ...] = ()  # lines of bash in each job before it starts, as `module load x`
    python: Line | None = None  # on the nodes; None: this one, or python3 of a container
    container: Container | None = None  # None: stages run on the nodes themselves
    options: dict[Option, Value] = Field(default={})  # others of sbatch; true: without a value

    @model_validator(mode="after")
    def options_are_free(self) -> Self:
        for name in self.options:
            if name in OURS:
                raise ValueError(f"options.{name} is set by Textmill itself; remove it")
            if name in FIELD_OF:
                raise ValueError(f"options.{name} has a field of its own: {FIELD_OF[name]}")
        return self

    @model_validator(mode="after")
    def one_rank_a_gpu(self) -> Self:
        if self.gpus_per_node and self.ranks_per_node not in (None, self.gpus_per_node):
            raise ValueError(
                f"ranks_per_node ({self.ranks_per_node}) must be gpus_per_node "
                f"({self.gpus_per_node}): one rank a GPU"
            )
        if self.gpu_type is not None and not self.gpus_per_node:
            raise ValueError("gpu_type is given and gpus_per_node is 0; set how many")
        return self

    @model_validator(mode="after")
    def warns_within_the_limit(self) -> Self:
        for stage in ("data_prep", "pretrain", "finetune"):
            limit = getattr(self.minutes, stage)
            if limit is not None and limit * 60 <= self.warn_seconds:
                raise ValueError(
                    f"warn_seconds ({self.warn_seconds}) must be less than minutes.{stage} "
                    f"({limit} min = {limit * 60} s)"
                )
        return self

    @property
    def num_ranks_per_node(self) -> int:
        """Training processes on each node, which are tasks of SLURM."""
        return self.ranks_per_node or self.gpus_per_node or 1
