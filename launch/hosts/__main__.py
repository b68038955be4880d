"""`python -m launch.hosts`: run what standard input describes as ranks, for a program that watches
several such runs (a search). The description is JSON of `driver.Wanted`: it may hold secrets, which
have no place on a command line. Output goes to standard output; a stop signal is passed on to all
ranks, an interrupt after it ends them. Exit code: that of the rank which failed first.
"""

import os
import signal
import sys
import time

from launch.hosts.driver import Driver, Listener, Wanted
from launch.stage_process import forwarded
from runtime.errors import run_command
from runtime.redaction import redactor


def main() -> int:
    wanted = Wanted.of_json(sys.stdin.read())
    hide = redactor(dict(os.environ) | wanted.environment)

    def show(line: str) -> None:
        print(hide(line), flush=True)

    def note(line: str) -> None:
        show(f"--- {time.strftime('%Y-%m-%d %H:%M:%S')} {line}")

    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # ignored under nohup, but no terminal sends it
    codes: list[int] = []

    def run() -> None:
        driver = Driver(wanted, Listener(show, note))
        with forwarded(wanted.program[1], driver.stop, driver.kill):
            codes.append(driver.run().exit_code)

    code = run_command(run) or codes[0]
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main())
