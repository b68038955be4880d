"""Exit codes and the one clear message of every expected error."""

import errno
import subprocess
import sys
from collections.abc import Callable

import pytest

from runtime import errors
from tests.ranks import ROOT

EXIT_CODES = {
    "RecipeError": 2,
    "Unready": 2,
    "DataError": 3,
    "NumericError": 4,
    "LostRankError": 5,
    "OutOfMemory": 6,
    "DiskError": 7,
    "BusyError": 8,
    "StopRequested": 75,
}


def raising(error: BaseException) -> Callable[[], None]:
    def command() -> None:
        raise error

    return command


@pytest.mark.parametrize(("name", "code"), EXIT_CODES.items())
def test_each_error_has_its_documented_exit_code(
    name: str, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert errors.run_command(raising(getattr(errors, name)("words for people"))) == code
    assert capsys.readouterr().err == f"textmill: {name}: words for people\n"


def test_every_error_class_is_in_the_list_above() -> None:
    assert {kind.__name__ for kind in errors.TextmillError.__subclasses__()} >= set(EXIT_CODES)
    codes = sorted(EXIT_CODES.values())
    assert codes == sorted([*set(codes), 2])  # a recipe and a machine: both before a start


def test_success_is_zero(capsys: pytest.CaptureFixture[str]) -> None:
    assert errors.run_command(lambda: None) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS])
def test_a_disk_that_refuses_is_named(number: int, capsys: pytest.CaptureFixture[str]) -> None:
    error = OSError(number, "No room", "/data/run/x.npy")
    assert errors.run_command(raising(error)) == 7
    assert "No room: /data/run/x.npy; free space there" in capsys.readouterr().err


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE])
def test_a_disk_that_fails_is_named(number: int, capsys: pytest.CaptureFixture[str]) -> None:
    error = OSError(number, "No answer", "/data/run/x.npy")
    assert errors.run_command(raising(error)) == 7
    assert "No answer: /data/run/x.npy; the disk or the network" in capsys.readouterr().err


def test_memory_without_a_word_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert errors.run_command(raising(MemoryError())) == 6
    assert "OutOfMemory: no memory left; lower" in capsys.readouterr().err


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
    ],
)
def test_memory_that_is_gone_says_what_to_lower(
    error: Exception, capsys: pytest.CaptureFixture[str]
) -> None:
    assert errors.run_command(raising(error)) == 6
    assert "lower train.micro_batch_size" in capsys.readouterr().err


@pytest.mark.parametrize("error", [RuntimeError("a bug"), OSError(errno.EPERM, "no"), KeyError(1)])
def test_our_own_bugs_keep_their_traceback(error: Exception) -> None:
    with pytest.raises(type(error)):
        errors.run_command(raising(error))


def test_an_interrupt_is_not_an_error_message(capsys: pytest.CaptureFixture[str]) -> None:
    assert errors.run_command(raising(KeyboardInterrupt())) == 130
    assert capsys.readouterr().err == "textmill: interrupted\n"


def test_a_reader_that_has_enough_is_no_fault() -> None:
    script = (
        "import sys; from runtime.errors import run_command\n"
        "def write():\n"
        "    for _ in range(100_000): print('a line of output')\n"
        "sys.exit(run_command(write))"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == b"a line of output\n"
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 0
