"""Write golden/ anew: `python -m tests.launch.slurm.write_golden`."""

from pathlib import Path

from tests.launch.slurm.recipes import BARE, LARGE, rendered

FOLDER = Path(__file__).with_name("golden")


def golden() -> dict[str, str]:
    """The texts by file name: as little as a recipe can say, and nearly all it can."""
    small = rendered(BARE)
    large = rendered(BARE | LARGE, tasks=("mood", "people"), launch={"restarts": 3})
    names = [name for name in small if name.endswith(".sbatch") or name == "submit.sh"]
    return {
        f"{which}.{name}": files[name]
        for which, files in (("small", small), ("large", large))
        for name in names
    }


if __name__ == "__main__":
    for name, text in golden().items():
        (FOLDER / name).write_text(text, encoding="utf-8")
