"""Each host has a free and healthy device for each of its ranks, and the same software under it.

Silent on hosts without an NVIDIA driver: their ranks compute on CPUs (see `cores`).
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from launch.doctor.finding import Finding, fault, odd_ones, warning
from launch.doctor.plan import Asked, Plan

FIELDS = (
    "index", "uuid", "name", "driver_version", "memory.total", "memory.used",
    "ecc.errors.uncorrected.volatile.total", "compute_mode",
)  # fmt: skip
SECONDS = 60.0  # a driver without persistence mode wakes each device up
BUSY_MIB = 1024  # of device memory in use
VISIBLE = "CUDA_VISIBLE_DEVICES"
HIDDEN_FROM = "-1"  # it and what follows is hidden


@dataclass(frozen=True)
class Device:
    """One GPU, as `nvidia-smi` tells."""

    index: str
    uuid: str
    name: str
    driver: str
    memory_mib: int
    used_mib: int
    ecc_errors: int
    mode: str


@dataclass(frozen=True)
class Seen:
    devices: list[dict[str, object]]
    visible: str | None  # CUDA_VISIBLE_DEVICES
    torch: dict[str, object] | None  # what runtime/devices.py tells; None: not asked
    error: str | None  # of nvidia-smi or torch


def look(asked: Asked) -> Seen:
    visible = os.environ.get(VISIBLE)
    if shutil.which("nvidia-smi") is None:
        return Seen([], visible, None, None)
    query = ["nvidia-smi", f"--query-gpu={','.join(FIELDS)}", "--format=csv,noheader,nounits"]
    told = subprocess.run(query, capture_output=True, text=True, timeout=SECONDS, check=False)
    if told.returncode:
        text = (told.stdout + told.stderr).strip()
        return Seen([], visible, None, f"nvidia-smi: {text.splitlines()[-1] if text else 'failed'}")
    devices = [vars(device_of(line)) for line in told.stdout.splitlines() if line.strip()]
    counted = subprocess.run(
        [sys.executable, "-m", "runtime.devices"],
        capture_output=True, text=True, timeout=SECONDS, check=False,
    )  # fmt: skip
    if counted.returncode:
        return Seen(devices, visible, None, f"torch: {counted.stderr.strip().splitlines()[-1:]}")
    return Seen(devices, visible, json.loads(counted.stdout.splitlines()[-1]), None)


def device_of(line: str) -> Device:
    """A line of nvidia-smi's table; what a device does not support reads `[N/A]`."""
    index, uuid, name, driver, memory, used, errors, mode = (
        part.strip() for part in line.split(",")
    )
    return Device(
        index, uuid, name, driver, number_of(memory), number_of(used), number_of(errors), mode
    )


def number_of(text: str) -> int:
    return int(text) if text.isdigit() else 0


def visible_of(found: Seen) -> list[Device]:
    """The devices that CUDA shows to a process there."""
    devices = [Device(**device) for device in found.devices]  # type: ignore[arg-type]
    if found.visible is None:
        return devices
    chosen = []
    for name in (name.strip() for name in found.visible.split(",")):
        one = [
            device
            for device in devices
            if device.index == name or (name and device.uuid.startswith(name))
        ]
        if not one or name == HIDDEN_FROM:
            break
        chosen += one
    return chosen


def judge(seen: Mapping[str, Seen], plan: Plan) -> Iterator[Finding]:
    for host, found in seen.items():
        if found.error is not None:
            yield fault(
                host,
                f"its GPUs cannot be used: {found.error}",
                "load the driver that its kernel needs (`dkms status`, `modprobe nvidia`), or "
                "reboot it after an update of the driver",
            )
        elif found.devices:
            yield from judge_count(host, found, plan)
            yield from judge_state(host, found)
    yield from judge_equal(seen)


def judge_count(host: str, found: Seen, plan: Plan) -> Iterator[Finding]:
    """Slots, devices, what CUDA shows of them, and what torch can use."""
    slots, visible = plan.slots(host), visible_of(found)
    usable = None if found.torch is None else int(str(found.torch["count"]))
    if slots is not None and slots > len(visible):
        hidden = (
            f", {VISIBLE}={found.visible} hides others" if len(visible) < len(found.devices) else ""
        )
        yield fault(
            host,
            f"{slots} slots for {len(visible)} devices{hidden}",
            f"write `{host} slots={len(visible)}` in the hostfile"
            + (f", or unset {VISIBLE}" if hidden else ""),
        )
    if usable is not None and found.torch is not None and usable < len(visible):
        build = found.torch["cuda"]
        yield fault(
            host,
            f"torch sees {usable} of {len(visible)} devices; it is built for "
            f"{f'CUDA {build}' if build else 'CPUs only'}, the driver is {visible[0].driver}",
            "install the torch build for the CUDA version that `nvidia-smi` shows, or a newer "
            "driver",
        )


def judge_state(host: str, found: Seen) -> Iterator[Finding]:
    """Memory in use by others, errors of memory, modes that refuse."""
    for device in visible_of(found):
        if device.used_mib > BUSY_MIB:
            yield fault(
                host,
                f"GPU {device.index} has {device.used_mib} of {device.memory_mib} MiB in use",
                f"end the process that `nvidia-smi --id={device.index} --query-compute-apps=pid,"
                "name --format=csv` names on it",
            )
        if device.ecc_errors:
            yield fault(
                host,
                f"GPU {device.index} has {device.ecc_errors} uncorrected memory errors",
                f"`nvidia-smi --gpu-reset --id={device.index}` on it; if they return, leave the "
                "host out and have it repaired",
            )
        if device.mode == "Prohibited":
            yield fault(
                host,
                f"GPU {device.index} is in compute mode Prohibited",
                f"`nvidia-smi --id={device.index} --compute-mode=DEFAULT` on it",
            )


def judge_equal(seen: Mapping[str, Seen]) -> Iterator[Finding]:
    """The same on all hosts that have devices; CUDA and NCCL must be."""
    of_devices = {host: found for host, found in seen.items() if found.devices}
    if not of_devices:
        return
    for host in seen.keys() - of_devices.keys():
        if seen[host].error is None:
            yield fault(
                host,
                "it has no GPU driver, other hosts have",
                "install the driver, or take the host out of the hostfile",
            )
    for what, level, fix in (
        ("driver", warning, "install the same driver on all hosts"),
        ("name", warning, "group equal machines: the slowest device sets the pace of all"),
    ):
        usual, odd = odd_ones(
            {host: str(found.devices[0][what]) for host, found in of_devices.items()}
        )
        for host, value in odd.items():
            yield level(host, f"its GPU {what} is {value}, elsewhere {usual}", fix)
    for what in ("cuda", "nccl"):
        told = {
            host: str(found.torch[what])
            for host, found in of_devices.items()
            if found.torch is not None
        }
        usual, odd = odd_ones(told) if told else ("", {})
        for host, value in odd.items():
            yield fault(
                host,
                f"torch there has {what.upper()} {value}, elsewhere {usual}",
                "install the same build of torch on all hosts",
            )
