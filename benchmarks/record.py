"""Result files of the benchmarks: one JSON file a script, in the form of benchmarks/README.md."""

import os
import platform
import shlex
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil

from runtime import provenance

RESULTS = Path(__file__).parent / "results"


def write(name: str, figures: Mapping[str, float], raw: Sequence[Any]) -> Path:
    """Write `results/NAME.json` and return its path."""
    path = RESULTS / f"{name}.json"
    provenance.write_json(
        path,
        {
            "date": datetime.now(UTC).date().isoformat(),
            "hardware": hardware(),
            "versions": provenance.versions(),
            "command": shlex.join(["python", *sys.argv]),
            "figures": dict(figures),
            "raw": list(raw),
        },
    )
    return path


def hardware() -> str:
    """Processor, cores and memory in words."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    model = next((line.split(":")[1].strip() for line in lines if "model name" in line), "unknown")
    memory = psutil.virtual_memory().total / (1 << 30)
    return f"{model}, {os.cpu_count()} cores, {memory:.0f} GiB, {platform.system()}"
