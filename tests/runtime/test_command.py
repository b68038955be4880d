"""How a command ends: its exit code arrives whatever the interpreter's own end would do."""

import subprocess
import sys

import pytest

ABORTS = "import atexit, os, sys; from runtime import command; atexit.register(os.abort)\n"


def ended(main: str) -> subprocess.CompletedProcess[str]:
    program = f"{ABORTS}def main():\n    {main}\ncommand.leave(main)\n"
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)


@pytest.mark.parametrize(
    ("main", "code"),
    [("return 0", 0), ("return 75", 75), ("sys.exit(2)", 2), ("sys.exit()", 0)],
)
def test_the_exit_code_survives_an_abort_at_the_end(main: str, code: int) -> None:
    assert ended(main).returncode == code


def test_all_output_arrives() -> None:
    assert ended("print('x' * 100_000); return 0").stdout == "x" * 100_000 + "\n"


def test_an_unexpected_error_keeps_its_traceback() -> None:
    found = ended("return 1 // 0")
    assert found.returncode == 1
    assert found.stderr.endswith("ZeroDivisionError: integer division or modulo by zero\n")
