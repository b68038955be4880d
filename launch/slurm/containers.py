"""How a stage gets into its container: options of srun, or a command before its own."""

from collections.abc import Sequence
from pathlib import Path

from runtime.errors import RecipeError
from runtime.slurm import Container


def srun_options(container: Container | None, folders: Sequence[Path], work: Path) -> list[str]:
    """For pyxis, whose containers srun makes."""
    if container is None or container.kind != "pyxis":
        return []
    mounts = ",".join(mounts_of(container, folders))
    return [
        f"--container-image={container.image}",
        f"--container-mounts={mounts}",
        f"--container-workdir={work}",
    ]


def prefix(
    container: Container | None, folders: Sequence[Path], work: Path, has_gpus: bool
) -> list[str]:
    """For apptainer, which is a command on each node."""
    if container is None or container.kind != "apptainer":
        return []
    binds = [word for mount in mounts_of(container, folders) for word in ("--bind", mount)]
    gpus = ["--nv"] if has_gpus else []
    return ["apptainer", "exec", *gpus, *binds, "--pwd", str(work), container.image]


def mounts_of(container: Container, folders: Sequence[Path]) -> list[str]:
    """The folders of the run at their own places, then what the recipe adds.

    Raises RecipeError for a folder whose name would be read as two.
    """
    for folder in folders:
        if set(",:") & set(str(folder)):
            raise RecipeError(
                f"the folder {folder} cannot be mounted in a container: its name holds a comma or "
                "a colon; work in another one"
            )
    own = [folder if ":" in folder else f"{folder}:{folder}" for folder in container.mounts]
    return [*(f"{folder}:{folder}" for folder in folders), *own]
