"""The folder of the run is one for all hosts, and every host may write, link and rename in it.

The first host writes a file; every other looks for it, waits until it appears, and writes one of
its own, which the first looks for. The run lock needs hard links, checkpoints need renames.
"""

import os
import secrets
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from launch.doctor import traces
from launch.doctor.finding import Finding, fault, warning
from launch.doctor.party import Party
from launch.doctor.plan import Asked, Plan

WAIT_SECONDS = 6.0  # for a file of another host to appear
SLOW_SECONDS = 3.0
SECONDS = 30.0
PREFIX = ".textmill-doctor-"


@dataclass(frozen=True)
class Seen:
    folder: str
    error: str | None = None  # why it could not write
    cannot_link: str | None = None
    write_seconds: float = 0.0  # a small file, fsynced and renamed
    first_seconds: float | None = 0.0  # until the first host's file appeared; None: never
    back_seconds: float | None = 0.0  # until the first host saw ours; None: never


def gather(party: Party, plan: Plan) -> Mapping[str, Seen]:
    """Write here, look there, and back; nothing stays."""
    token = secrets.token_hex(6)
    try:
        written = party.ask("shared", "write", of_all(party, {"token": token}), SECONDS)
        first = next((host for host in party.hosts if can_write(written.get(host))), None)
        others = [
            host for host in written if host not in (first, None) and can_write(written[host])
        ]
        if first is None or not others:
            return {host: Seen(**found) for host, found in written.items()}
        asked = {host: {"token": token, "hosts": [first]} for host in others}
        asked[first] = {"token": token, "hosts": others}
        waited = party.ask("shared", "await_files", asked, SECONDS)
    finally:
        party.ask("shared", "remove", of_all(party, {"token": token}))
    return {
        host: Seen(
            **found
            | {
                "first_seconds": waited.get(host, {}).get(first, 0.0),
                "back_seconds": waited.get(first, {}).get(host, 0.0),
            }
        )
        for host, found in written.items()
    }


def of_all(party: Party, arguments: Mapping[str, str]) -> dict[str, Mapping[str, str]]:
    return dict.fromkeys(party.hosts, arguments)


def can_write(found: Mapping[str, object] | None) -> bool:
    return found is not None and found["error"] is None


def folder_of(asked: Asked) -> Path:
    """The folder of the run, or what exists of the way to it; without a recipe the working one."""
    job = asked.plan.job
    path = Path(asked.plan.folder if job is None else job.output)
    while not path.is_dir() and path != path.parent:
        path = path.parent
    return path


def file_of(folder: Path, token: str, host: str) -> Path:
    return folder / f"{PREFIX}{token}-{host}"


def write(asked: Asked, token: str) -> Seen:
    """Write, fsync, link and rename a file of this host."""
    folder = folder_of(asked)
    path = file_of(folder, token, asked.host)
    draft, second = path.with_name(f"{path.name}.draft"), path.with_name(f"{path.name}.link")
    began = time.monotonic()
    traces.paths.update((path, draft, second))
    try:
        with draft.open("w", encoding="utf-8") as file:
            file.write(token)
            file.flush()
            os.fsync(file.fileno())
        cannot_link = None
        try:
            os.link(draft, second)
        except OSError as error:
            cannot_link = error.strerror
        draft.rename(path)
    except OSError as error:
        return Seen(str(folder), error=error.strerror)
    finally:
        for leftover in (draft, second):
            traces.remove(leftover)
    return Seen(str(folder), cannot_link=cannot_link, write_seconds=time.monotonic() - began)


def await_files(asked: Asked, token: str, hosts: list[str]) -> dict[str, float | None]:
    """Seconds until each host's file is here."""
    began = time.monotonic()
    waited: dict[str, float | None] = dict.fromkeys(hosts)
    while None in waited.values() and time.monotonic() - began < WAIT_SECONDS:
        for host in hosts:
            if waited[host] is None and holds(file_of(folder_of(asked), token, host), token):
                waited[host] = time.monotonic() - began
        time.sleep(0.05)
    return waited


def holds(path: Path, token: str) -> bool:
    """Opened rather than asked about: NFS then asks its server."""
    try:
        return path.read_text(encoding="utf-8") == token
    except OSError:
        return False


def remove(asked: Asked, token: str) -> None:
    traces.remove(file_of(folder_of(asked), token, asked.host))


def judge(seen: Mapping[str, Seen], plan: Plan) -> Iterator[Finding]:
    path = plan.folder if plan.job is None else plan.job.output
    for host, found in seen.items():
        waited = [found.first_seconds, found.back_seconds]
        if found.error is not None:
            yield fault(
                host,
                f"{found.folder} cannot be written ({found.error})",
                "mount it writable and give it to the user of the run (`chown`), or set another "
                "`output`",
            )
        elif None in waited:
            yield fault(
                host,
                f"{found.folder} is another folder there than on {plan.first}: files of one do not "
                "appear on the other",
                f"mount the shared file system at {found.folder} on it (`findmnt -T {found.folder}`"
                " on both), or set `output` to a folder that is shared",
            )
        elif found.cannot_link is not None:
            yield fault(
                host,
                f"the file system of {path} has no hard links ({found.cannot_link}), which locks "
                "of runs need",
                "set `output` to a POSIX file system (NFS, Lustre, ext4...)",
            )
        elif max(found.write_seconds, *(seconds or 0.0 for seconds in waited)) > SLOW_SECONDS:
            yield warning(
                host,
                f"a small file in {found.folder} takes {found.write_seconds:.1f} s to write and "
                f"{max(seconds or 0.0 for seconds in waited):.1f} s to appear on other hosts",
                "mount it with shorter caching of attributes (`actimeo=3`), or set `output` to a "
                "faster file system",
            )
