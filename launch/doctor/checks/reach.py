"""Every host answers: by ssh without a password or a question, with our Python, and quickly."""

import platform
import re
from collections.abc import Iterator, Mapping

from launch.doctor.conversation import Opening
from launch.doctor.finding import Finding, fault, warning
from launch.doctor.opening import SETUP_FAILED
from launch.doctor.party import OPEN_SECONDS, Party
from launch.doctor.plan import Plan

SLOW_SECONDS = 10.0
TRUST = "ssh-keyscan -H {host} >> ~/.ssh/known_hosts"
# What ssh or srun says, what it means, what to do; the first that fits.
SAID = (
    (
        f"{SETUP_FAILED}.",
        "a line of slurm.setup fails there",
        "correct it in the recipe; see what it says by `srun --nodelist={host} bash -c '...'`",
    ),
    (
        "IDENTIFICATION HAS CHANGED",
        "its ssh host key is another than the one known here",
        "if the machine was installed anew, `ssh-keygen -R {host}; " + TRUST + "`; else find out "
        "who answers under its name",
    ),
    ("Host key verification failed", "its ssh host key is not known here", "`" + TRUST + "`"),
    (
        r"Permission denied \(",
        "ssh refuses our key",
        "`ssh-copy-id {host}`; the key must need no passphrase, or ssh-agent must hold it",
    ),
    (
        "Connection refused",
        "no ssh server listens there",
        "`systemctl enable --now ssh` on it, or name its port in ~/.ssh/config",
    ),
    (
        "Could not resolve hostname",
        "its name has no address",
        "correct the hostfile, or add the name to DNS or to /etc/hosts on every host",
    ),
    (
        "timed out|No route to host|Network is unreachable",
        "it cannot be reached",
        "start the machine, or open TCP port 22 in its firewall",
    ),
    (
        r"\bcd: ",
        "the folder {folder} does not exist there",
        "mount the file system that the hosts share, or `rsync -a {first}:{folder}/ {folder}/` on "
        "it",
    ),
    (
        r"SyntaxError|cannot import name '\w+' from '(typing|enum|datetime)'",
        "its Python at {python} is too old for Textmill",
        "make that environment anew with Python {version}",
    ),
    (
        "No module named '?(launch|runtime)",
        "its Python has no Textmill of this version",
        "`{python} -m pip install -e {folder}` on it",
    ),
    (
        "No such file or directory|not found|No module named|ModuleNotFoundError",
        "this Python does not start there",
        "install the same environment at {python} on it, or share that folder",
    ),
)


def gather(party: Party, plan: Plan) -> Mapping[str, Opening]:
    """How starting the probes went."""
    return party.openings


def judge(seen: Mapping[str, Opening], plan: Plan) -> Iterator[Finding]:
    for host, opening in seen.items():
        if opening.error is not None:
            yield failed(host, opening, plan)
            continue
        if opening.seconds > SLOW_SECONDS:
            yield warning(
                host,
                f"starting Python there took {opening.seconds:.0f} s",
                "set `UseDNS no` and `GSSAPIAuthentication no` in its sshd_config, and keep the "
                "environment on a fast file system",
            )
        if opening.noise:
            yield warning(
                host,
                f"its start-up files print where nobody reads it: {opening.noise[0]!r}",
                "begin its ~/.bashrc with `[[ $- == *i* ]] || return`",
            )


def failed(host: str, opening: Opening, plan: Plan) -> Finding:
    """The fault behind a probe that did not start."""
    names = {
        "host": host,
        "python": plan.python,
        "version": platform.python_version(),
        "folder": plan.folder,
        "first": plan.first,
    }
    text = opening.error or ""
    for pattern, what, fix in SAID:
        if re.search(pattern, text):
            return fault(host, f"{what.format(**names)} ({last_line(text)})", fix.format(**names))
    if opening.exit_code is None:
        return fault(
            host,
            f"nothing came from it within {OPEN_SECONDS:.0f} s",
            f"see what `srun --nodelist={host} {plan.python} -V` waits for"
            if plan.reached == "srun"
            else f"see what `ssh -v {host} {plan.python} -V` waits for; if for SSH2_MSG_KEX, give "
            "all interfaces and switches the same MTU",
        )
    way = f"srun --nodelist={host}" if plan.reached == "srun" else f"ssh {host}"
    return fault(
        host,
        f"the probe ended with exit code {opening.exit_code} ({last_line(text)})",
        f"see what `{way} {plan.python} -m launch.doctor.probe` says",
    )


def last_line(text: str) -> str:
    """The last line that says something."""
    found = [line.strip() for line in text.splitlines() if line.strip(" @\r\n")]
    return found[-1] if found else "it said nothing"
