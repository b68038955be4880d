"""`python start.py SECONDS PROGRAM ...`: a program on the hosts of ./hostfile, as stages are run;
without such a file as two ranks here.

SECONDS are those in which a link is known to be dead, and other ranks may end by themselves after
one has failed. Stubborn ranks are given a second to save.
"""

import sys
from pathlib import Path

from launch import stage_process
from launch.hosts import driver, environment_file, hostfile, nodes, ssh
from runtime.errors import run_command

seconds, program = float(sys.argv[1]), tuple(sys.argv[2:])
driver.FAILED_SECONDS = driver.SILENT_SECONDS = seconds
driver.BEAT_SECONDS = seconds / 4
driver.GRACE_SECONDS = driver.LAST_SECONDS = 1.0 if "stubborn" in program[1] else 60.0
ssh.OPTIONS |= {"ConnectTimeout": 3, "ServerAliveInterval": 1}


def main() -> None:
    path = Path("hostfile")
    hosts = nodes.of_hosts(hostfile.read(path)) if path.exists() else nodes.here(2)
    variables = Path("variables")
    sent = environment_file.read_file(variables) if variables.exists() else {}
    wanted = driver.Wanted(hosts, program, Path("logs/stage"), Path("cache"), sent)
    outcome = stage_process.run_ranks("stage", wanted, Path("logs/stage.log"))
    print(f"outcome {outcome.exit_code} {outcome.signal_name} {outcome.stop_requested}")


sys.exit(run_command(main))
