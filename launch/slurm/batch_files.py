"""The batch files of a run: one a stage, what they share, the recipe, and `submit.sh`.

They are plain bash, readable and complete: whoever wants to change something for once edits them
and runs `submit.sh`. Every value is quoted, either for bash or as sbatch reads its own lines. Jobs
read the copy of the recipe beside them, so that a recipe edited while they wait changes nothing.
"""

import json
import re
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from launch.slurm import containers, directives
from launch.stage_process import RANKED
from runtime import starting
from runtime.config import Recipe
from runtime.errors import RecipeError
from runtime.recipe import to_toml

EVALUATE = "evaluate"
FINETUNE = "finetune"
STAGES = ("data_prep", "pretrain", FINETUNE, EVALUATE)
SHARED = Path(__file__).with_name("job.sh")
SUBMIT = "submit.sh"
JOBS = "jobs.json"
TASKS = "tasks="  # begins the line that names what an array trains
# What the user's environment may still decide where the recipe says nothing.
CHOICES = ("partition", "account", "qos", "reservation", "constraint")


@dataclass(frozen=True)
class Place:
    """Where a run lies, in absolute paths that all nodes see."""

    work: Path  # the folder that relative paths of the recipe start from
    output: Path

    @property
    def folder(self) -> Path:
        """Of the batch files."""
        return self.output / "slurm"

    @property
    def folders(self) -> list[Path]:
        """What a container has to be given."""
        return list(dict.fromkeys([self.work, self.output]))

    @property
    def logs(self) -> Path:
        return self.output / "logs" / "slurm"


def place_of(recipe: Recipe) -> Place:
    """Raises RecipeError for a path that a batch file or sbatch cannot hold."""
    place = Place(Path.cwd(), recipe.output.absolute())
    for path in (place.work, place.output):
        if not str(path).isprintable() or "\\" in str(path):
            raise RecipeError(
                f"SLURM cannot work in {str(path)!r}: the name holds a line break, a backslash or "
                "another character that cannot be printed; choose another folder"
            )
    return place


def rendered(
    recipe: Recipe, stages: Sequence[str], place: Place, tasks: Sequence[str]
) -> dict[str, str]:
    """The text of each file by its name. Of several `tasks` (task or multi-task models that are not
    done) fine-tuning is an array. Raises RecipeError for tables that do not fit together."""
    if recipe.slurm.container is not None and recipe.launch.executor == "slurm":
        raise RecipeError(
            'launch.executor = "slurm" submits jobs from inside a job, which a container '
            'cannot do; set launch.executor = "local", or leave slurm.container out'
        )
    return {
        "recipe.toml": to_toml(for_jobs(recipe)),
        SHARED.name: SHARED.read_text(encoding="utf-8"),
        **{f"{stage}.sbatch": batch_file(recipe, stage, place, tasks) for stage in stages},
        SUBMIT: submit_file(recipe, stages, place),
    }


def for_jobs(recipe: Recipe) -> Recipe:
    """The recipe that jobs read: a rank takes the CPUs its task is given, not those of the node."""
    if recipe.engine.threads_per_rank is not None:
        return recipe
    engine = recipe.engine.model_copy(update={"threads_per_rank": recipe.slurm.cpus_per_rank})
    return recipe.model_copy(update={"engine": engine})


def batch_file(recipe: Recipe, stage: str, place: Place, tasks: Sequence[str]) -> str:
    """What sbatch is given for a stage."""
    table, name = recipe.slurm, job_name(recipe)
    is_array = stage == FINETUNE and len(tasks) > 1
    asked = directives.of_every_job(name, stage, table, place.work, place.logs)
    if stage in RANKED:
        asked |= directives.of_ranks(table)
    else:
        asked |= (
            directives.of_evaluate(table) if stage == EVALUATE else directives.of_data_prep(table)
        )
    if is_array:
        asked |= directives.of_array(table, len(tasks), place.logs)
    lines = [
        "#!/usr/bin/env bash",
        f"# {stage} of {name}, written by `textmill run`; submit.sh queues it after what it needs.",
        *directives.lines(asked | dict(table.options)),
        "set -eo pipefail",
        *table.setup,  # before -u, which the scripts of modules and environments do not stand
        "set -u",
        *(f"export {key}={shlex.quote(value)}" for key, value in variables(recipe, place).items()),
        f"# shellcheck source={SHARED.name}",
        f"source {shlex.quote(str(place.folder / SHARED.name))}",
        *([f"{TASKS}({shlex.join(tasks)})"] if is_array else []),
        *call(recipe, stage, place, is_array),
    ]
    return "\n".join(lines) + "\n"


def job_name(recipe: Recipe) -> str:
    """The recipe's name as a job's."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", recipe.name).strip("-") or "textmill"


def variables(recipe: Recipe, place: Place) -> dict[str, str]:
    """The environment of a job beside what it was submitted with."""
    return {
        "TEXTMILL_NOTES": str(place.folder),
        "TEXTMILL_REQUEUES": str(recipe.slurm.requeues),
        "TEXTMILL_RESTARTS": str(recipe.launch.restarts),
        **starting.variables(place.output / "cache"),
    }


def tasks_of(folder: Path) -> list[str]:
    """What the elements of the submitted fine-tuning array train, by the batch files in a folder;
    nothing if it is no array."""
    path = folder / f"{FINETUNE}.sbatch"
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    found = [line for line in lines if line.startswith(TASKS)]
    return shlex.split(found[0].removeprefix(TASKS)[1:-1]) if found else []


def call(recipe: Recipe, stage: str, place: Place, is_array: bool) -> list[str]:
    """The lines that run the stage, or one task of it."""
    table = recipe.slurm
    has_gpus = table.gpus_per_node > 0 and stage in RANKED
    inside = table.container, place.folders, place.work
    options = containers.srun_options(*inside)
    words = [
        *containers.prefix(*inside, has_gpus),
        interpreter(recipe),
        *program(recipe, stage, place),
    ]
    function = "run_ranks" if stage in RANKED else "run_alone"
    lines = [shlex.join([function, stage, *options, "--"]), f"    {shlex.join(words)}"]
    if is_array:
        lines.append('    --only="${tasks[SLURM_ARRAY_TASK_ID]}"')
    return " \\\n".join(lines).splitlines()


def interpreter(recipe: Recipe) -> str:
    """Python on the nodes, or in the container."""
    return recipe.slurm.python or ("python3" if recipe.slurm.container else sys.executable)


def program(recipe: Recipe, stage: str, place: Place) -> list[str]:
    """The arguments of the interpreter."""
    if stage == EVALUATE:
        return ["-m", "launch", "report", str(place.output)]
    overrides = data_prep_overrides(recipe) if stage == "data_prep" else []
    return ["-m", stage, str(place.folder / "recipe.toml"), *overrides]


def data_prep_overrides(recipe: Recipe) -> list[str]:
    """Who does the units: as many processes as the job has CPUs, or tasks of an array, which take
    from [slurm] what [launch.slurm] does not say."""
    launch, table = recipe.launch, recipe.slurm
    found: dict[str, str | int] = {}
    if launch.workers is None:
        found["launch.workers"] = table.data_prep_cpus
    if launch.executor == "slurm":
        own, partition = launch.slurm, table.cpu_partition or table.partition
        if own.partition is None and partition is not None:
            found["launch.slurm.partition"] = partition
        if own.account is None and table.account is not None:
            found["launch.slurm.account"] = table.account
        for name in ("qos", "reservation"):
            value = getattr(table, name)
            if value is not None and name not in own.options:
                found[f"launch.slurm.options.{name}"] = value
    return [f"{key}={json.dumps(value)}" for key, value in found.items()]


def submit_file(recipe: Recipe, stages: Sequence[str], place: Place) -> str:
    """The script that queues the jobs, each after the success of the one before."""
    kept = [name for name in CHOICES if getattr(recipe.slurm, name) is None]
    names = " | ".join(["SLURM_CONF", *(f"SBATCH_{name.upper()}" for name in kept)])
    return SUBMIT_TEXT.format(
        name=job_name(recipe),
        work=shlex.quote(str(place.work)),
        folder=shlex.quote(str(place.folder)),
        logs=shlex.quote(str(place.logs)),
        kept=names,
        stages=" ".join(stages),
        jobs=JOBS,
    )


SUBMIT_TEXT = """\
#!/usr/bin/env bash
# Queue the stages of {name}, each after the success of the one before; written by `textmill run`.
# Prints a line `STAGE JOB` for each. If one is refused, those before it are cancelled.
set -euo pipefail
cd {work}
folder={folder}
mkdir -p {logs}

# Options of another job, or defaults of the user that would go before what the files ask for.
for name in "${{!SLURM_@}}" "${{!SBATCH_@}}"; do
    case $name in
    {kept}) ;;
    *) unset "$name" ;;
    esac
done

ids=()
noted=''
is_whole=0
undo() {{
    if [[ $is_whole -eq 0 && ${{#ids[@]}} -gt 0 ]]; then
        scancel "${{ids[@]}}" && rm -f "$folder/{jobs}"
    fi
}}
trap undo EXIT

for stage in {stages}; do
    after=()
    if [[ ${{#ids[@]}} -gt 0 ]]; then
        after=(--dependency="afterok:${{ids[-1]}}" --kill-on-invalid-dep=yes)
    fi
    job=$(sbatch --parsable "${{after[@]}}" "$folder/$stage.sbatch")
    ids+=("${{job%%;*}}") # a federated cluster adds its name
    noted+="${{noted:+, }}\\"$stage\\": \\"${{ids[-1]}}\\""
    printf '{{%s}}\\n' "$noted" >"$folder/{jobs}.new"
    mv "$folder/{jobs}.new" "$folder/{jobs}"
    echo "$stage ${{ids[-1]}}"
done
is_whole=1
"""
