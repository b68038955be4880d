"""Environment files: every value comes back, every line that is none is named, no value is told."""

from pathlib import Path

import pytest

from launch.hosts import environment_file
from runtime.errors import RecipeError
from tests.launch.hosts import nasty


def write(folder: Path, text: str) -> Path:
    path = folder / "variables"
    path.write_bytes(text.encode())
    return path


def test_values_are_what_stands_there(tmp_path: Path) -> None:
    text = '# net\n\nA=b  \n B = c d \nEMPTY=\nC=a#b "c" $D \\n\nD=" x\\n\\u4e2d"\nE=a=b\r\nF=\'x'
    assert environment_file.read_file(write(tmp_path, text)) == {
        "A": "b", "B": "c d", "EMPTY": "", "C": 'a#b "c" $D \\n',
        "D": " x\n中", "E": "a=b", "F": "'x",
    }  # fmt: skip


def test_200_nasty_values_come_back(tmp_path: Path) -> None:
    values = {f"N{i}": value for i, value in enumerate(nasty.values(200))}
    assert len(values) == 200
    text = "".join(nasty.line(name, value) for name, value in values.items())
    assert environment_file.read_file(write(tmp_path, text)) == values
    assert sum('="' in line for line in text.splitlines()) > 40  # both forms are there
    assert sum('="' not in line for line in text.splitlines()) > 40


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("hunter2", "line 2 is no `NAME=value`"),
        ("=hunter2", "line 2 is no `NAME=value`"),
        ("a-b=hunter2", "line 2 is no `NAME=value`"),
        ("2A=hunter2", "line 2 is no `NAME=value`"),
        ("export B=hunter2", "line 2 is no `NAME=value`; leave out `export`"),
        ("A=hunter2", "line 2 sets A again"),
        ("RANK=hunter2", "line 2 sets RANK, which the launcher sets for each rank"),
        ('B="hunter2', "line 2: the value of B is no JSON string"),
        ('B="hun\\ter2\\q"', "line 2: the value of B is no JSON string"),
        ('B="hunter2" x', "line 2: the value of B is no JSON string"),
        ("B='hunter2'", "line 2: the value of B is in single quotes"),
        ('B="hunter2\\u0000"', "line 2: the value of B holds NUL"),
        ("B=hunter2\0", "line 2: the value of B holds NUL"),
        ('B="hunter2\\ud800"', "line 2: the value of B holds half a surrogate pair"),
    ],
)
def test_a_line_that_is_none(tmp_path: Path, line: str, problem: str) -> None:
    with pytest.raises(RecipeError) as caught:
        environment_file.read_file(write(tmp_path, f"A=b\n{line}\nC=\n"))
    assert problem in str(caught.value)
    assert "hunter" not in str(caught.value)


def test_all_problems_at_once(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="3 problems in the environment file"):
        environment_file.read_file(write(tmp_path, "x\nA=1\nA=2\nB='c'\n"))


def test_a_file_of_another_encoding(tmp_path: Path) -> None:
    path = tmp_path / "variables"
    path.write_bytes(b"A=b\nC=\xe9\n")
    with pytest.raises(RecipeError, match="is not UTF-8 on line 2"):
        environment_file.read_file(path)
    with pytest.raises(RecipeError, match="cannot read the environment file"):
        environment_file.read(tmp_path / "absent")


def test_the_files_of_deepspeed_are_read_where_none_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "home").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert environment_file.read(None) == {}
    Path("home/.deepspeed_env").write_text("A=home\nB=home\n")
    Path(".deepspeed_env").write_text("B=here\n")
    assert environment_file.read(None) == {"A": "home", "B": "here"}
    assert environment_file.read(write(tmp_path, "C=named\n")) == {"C": "named"}
