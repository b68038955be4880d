"""What is written for SLURM: byte by byte as in golden/, quoted whatever it holds, clean for
shellcheck.

After a change that is meant, write golden/ anew and read what has changed:

    python -m tests.launch.slurm.write_golden
"""

import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest

from launch.slurm import batch_files, directives
from launch.slurm.batch_files import Place
from runtime.errors import RecipeError
from runtime.recipe import load
from tests.launch.slurm.recipes import APPTAINER, BARE, LARGE, PYXIS, recipe_of, rendered
from tests.launch.slurm.test_hand_written import SHELLCHECK
from tests.launch.slurm.write_golden import FOLDER, golden

NASTY = """it's "100%" $HOME `id` #1; a&b |c <d> (e) *?~!é語"""


@pytest.mark.parametrize("name", sorted(golden()))
def test_golden(name: str) -> None:
    assert golden()[name] == (FOLDER / name).read_text(encoding="utf-8")


def test_golden_has_no_file_of_an_earlier_day() -> None:
    assert {path.name for path in FOLDER.iterdir()} == set(golden())


@pytest.mark.parametrize(
    ("table", "folder"),
    [(BARE, NASTY), (LARGE, "plain"), (PYXIS, "plain"), (APPTAINER, NASTY)],
    ids=["bare", "large", "pyxis", "apptainer"],
)
def test_shellcheck_finds_nothing(tmp_path: Path, table: dict[str, Any], folder: str) -> None:
    files = rendered(table, Place(tmp_path / folder, tmp_path / folder / "out"))
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    scripts = [name for name in files if not name.endswith(".toml")]
    assert len(scripts) == 6
    # Of a $ in quotes it asks whether it was meant.
    options = ["--exclude=SC2016"] if folder == NASTY else []
    found = subprocess.run(
        [SHELLCHECK, "-x", *options, *scripts],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (found.returncode, found.stdout) == (0, "")


def as_sbatch_reads(line: str) -> str:
    """The value of a directive by the rules of sbatch, as tests/launch/slurm/test_cluster.py sees
    them."""
    value, quote, is_escaped = "", "", False
    for character in line.partition("=")[2]:
        if is_escaped:
            value, is_escaped = value + character, False
        elif character == "\\":
            is_escaped = True  # of white space only in quotes
        elif quote and character == quote:
            quote = ""
        elif not quote and character in "\"'":
            quote = character
        elif not quote and (character == "#" or character.isspace()):
            break
        else:
            value += character
    return value


@pytest.mark.parametrize("value", [NASTY, "\\", "a\\", "'", '"', "# x", " a ", "=", "--wrap=id"])
def test_directives_hold_any_value(value: str) -> None:
    (line,) = directives.lines({"comment": value})
    assert as_sbatch_reads(line) == value
    assert "\n" not in line


@pytest.mark.parametrize("value", ["a\nb", "a\x00b", "a\x1bb", "x" * 9000])
def test_directives_refuse_what_no_line_holds(value: str) -> None:
    with pytest.raises(ValueError, match="cannot stand in a batch file"):
        list(directives.lines({"comment": value}))


def test_bash_and_sbatch_read_nasty_folders_as_they_are(tmp_path: Path) -> None:
    place = Place(tmp_path / NASTY, tmp_path / NASTY / "out")
    text = rendered({"python": f"/opt/{NASTY}/python"}, place)["pretrain.sbatch"]
    (chdir,) = re.findall("^#SBATCH --chdir.*$", text, re.MULTILINE)
    (output,) = re.findall("^#SBATCH --output.*$", text, re.MULTILINE)
    assert as_sbatch_reads(chdir) == str(place.work)
    log = f"{place.output}/logs/slurm/pretrain-".replace("%", "%%")
    assert as_sbatch_reads(output) == f"{log}%j.log"
    assert shlex.split(text[text.index("run_ranks") :].replace("\\\n", "")) == [
        *("run_ranks", "pretrain", "--", f"/opt/{NASTY}/python", "-m", "pretrain"),
        f"{place.output}/slurm/recipe.toml",
    ]


@pytest.mark.parametrize("name", ["a\nb", "a\\b", "a\x1bb"])
def test_folders_that_no_file_can_hold_are_refused(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(RecipeError, match="choose another folder"):
        batch_files.place_of(recipe_of({}, output=f"runs/{name}"))
    (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / name)
    with pytest.raises(RecipeError, match="choose another folder"):
        batch_files.place_of(recipe_of({}))


@pytest.mark.parametrize(
    ("name", "job"), [("a b\n'c'", "a-b-c"), ("語", "textmill"), ("x.1", "x.1")]
)
def test_the_name_of_a_recipe_becomes_one_of_a_job(name: str, job: str) -> None:
    text = rendered(BARE, name=name)["pretrain.sbatch"]
    assert f"\n#SBATCH --job-name={job}-pretrain\n" in text
    assert text.splitlines()[1].startswith(f"# pretrain of {job}, written by")


def test_jobs_read_the_same_recipe(tmp_path: Path) -> None:
    """With the threads that a rank's CPUs allow, unless the recipe says how many."""
    path = tmp_path / "recipe.toml"
    path.write_text(rendered({"cpus_per_rank": 6})["recipe.toml"])
    ours = recipe_of({"cpus_per_rank": 6}, engine={"threads_per_rank": 6})
    assert load(path, (), type(ours)) == ours
    path.write_text(rendered({"cpus_per_rank": 6}, engine={"threads_per_rank": 2})["recipe.toml"])
    assert load(path, (), type(ours)).engine.threads_per_rank == 2


def command_of(slurm: dict[str, Any], stage: str = "data_prep", **tables: Any) -> list[str]:
    text = rendered({**BARE, **slurm}, **tables)[f"{stage}.sbatch"]
    return shlex.split(text[text.rindex("\nrun_") :].replace("\\\n", ""))


def test_workers_of_data_preparation() -> None:
    assert command_of({"data_prep_cpus": 8})[-1] == "launch.workers=8"
    assert command_of({}, launch={"workers": 3})[-1].endswith("recipe.toml")


def test_arrays_of_data_preparation_take_what_they_lack_from_the_table() -> None:
    own = {"executor": "slurm", "workers": 16}
    where = {"partition": "gpu", "cpu_partition": "cpu", "account": "team", "qos": "high"}
    assert command_of(where, launch=own)[-3:] == [
        'launch.slurm.partition="cpu"',
        'launch.slurm.account="team"',
        'launch.slurm.options.qos="high"',
    ]
    own["slurm"] = {"partition": "long", "account": "other", "options": {"qos": "low"}}
    assert command_of(where, launch=own)[-1].endswith("recipe.toml")


def test_an_array_cannot_be_submitted_from_a_container() -> None:
    with pytest.raises(RecipeError, match="which a container cannot do"):
        rendered(PYXIS, launch={"executor": "slurm", "workers": 2})


def test_pyxis() -> None:
    words = command_of(PYXIS, "pretrain")
    home = "/home/ann/textmill"
    assert words == [
        *("run_ranks", "pretrain", "--container-image=nvcr.io#nvidia/pytorch:24.01-py3"),
        f"--container-mounts={home}:{home},{home}/runs/english:{home}/runs/english,"
        "/data:/data,/scratch:/tmp/scratch:ro",
        f"--container-workdir={home}",
        *("--", "/venv/bin/python", "-m", "pretrain", f"{home}/runs/english/slurm/recipe.toml"),
    ]


def test_apptainer_sees_gpus_where_the_job_has_some() -> None:
    assert command_of(APPTAINER, "pretrain")[2:6] == ["--", "apptainer", "exec", "--nv"]
    assert command_of(APPTAINER, "evaluate")[2:6] == ["--", "apptainer", "exec", "--bind"]
    assert "/data:/data" in command_of(APPTAINER, "evaluate")


@pytest.mark.parametrize("table", [PYXIS, APPTAINER])
def test_a_folder_that_would_be_read_as_two_is_not_mounted(table: dict[str, Any]) -> None:
    with pytest.raises(RecipeError, match="holds a comma or a colon"):
        rendered(table, Place(Path("/a,b"), Path("/out")))
