"""Stand-ins for SLURM's commands, which write what they were told."""

import os
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.conftest import ROOT

# srun: two tasks; their exit codes are STAGE_CODES, the highest is passed on, as SLURM does.
SRUN = """#!/usr/bin/env bash
while [[ $1 == --* ]]; do echo "srun $1" >>"$CALLS"; shift; done
read -r -a codes <<<"$STAGE_CODES"
code=0
for rank in "${!codes[@]}"; do
    found=0
    SLURM_PROCID=$rank STAGE_CODE=${codes[rank]} "$@" || found=$?
    code=$((found > code ? found : code))
done
exit $code
"""
SCONTROL = """#!/usr/bin/env bash
if [[ $1 == show ]]; then echo node-a; echo node-b; else echo "scontrol $*" >>"$CALLS"; fi
"""
# sbatch: job ids from 101 on; REFUSED names a stage whose file it refuses.
SBATCH = """#!/usr/bin/env bash
echo "sbatch $*" >>"$CALLS"
if [[ -n ${REFUSED:-} && $* == *"/$REFUSED.sbatch"* ]]; then
    echo "sbatch: error: Batch job submission failed: Invalid partition name specified" >&2
    exit 1
fi
env | grep -E '^(SLURM|SBATCH)_' | sort | sed "s/^/env /" >>"$CALLS.env" || true
echo $((100 + $(grep -c ^sbatch "$CALLS")))
"""
SCANCEL = """#!/usr/bin/env bash
echo "scancel $*" >>"$CALLS"
"""
SQUEUE = """#!/usr/bin/env bash
printf '%b' "${QUEUE:-}"
"""
PYTHON = """#!/usr/bin/env bash
echo "rank $SLURM_PROCID of ${MASTER_ADDR:-}:${MASTER_PORT:-}: $*" >>"$CALLS"
exit "${STAGE_CODE:-0}"
"""
COMMANDS = {
    "srun": SRUN,
    "scontrol": SCONTROL,
    "sbatch": SBATCH,
    "scancel": SCANCEL,
    "squeue": SQUEUE,
    "stage-python": PYTHON,
}


@dataclass
class StandIn:
    """Where the commands are, and what they were told."""

    folder: Path
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def calls(self) -> list[str]:
        path = self.folder / "calls"
        return path.read_text().splitlines() if path.exists() else []

    def bash(self, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run bash where the commands are found first."""
        return subprocess.run(
            ["bash", *words],
            env=self.environment | environment,
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
        )


@pytest.fixture
def stand_in(tmp_path: Path) -> StandIn:
    (tmp_path / "bin").mkdir()
    for name, text in COMMANDS.items():
        (tmp_path / "bin" / name).write_text(text)
        (tmp_path / "bin" / name).chmod(0o755)
    for name in ("slurm", "launch"):
        (tmp_path / name).symlink_to(ROOT / name)
    found = {key: value for key, value in os.environ.items() if not key.startswith("SLURM_")}
    return StandIn(
        tmp_path,
        {
            **found,
            "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}",
            "CALLS": str(tmp_path / "calls"),
            "SLURM_SUBMIT_DIR": str(tmp_path),
            "SLURM_JOB_ID": "41",
            "SLURM_JOB_NODELIST": "node-[a-b]",
            "STAGE_CODES": "0 0",
            "TEXTMILL_PYTHON": "stage-python",
        },
    )
