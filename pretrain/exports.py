"""Exports in the middle of a run: the encoder at chosen shares of the budget.

At the first step at which a share is reached, `exports/step-N/` is written, the same folder the end
of the run writes. Which shares are done travels in the checkpoint: a run that was killed between an
export and its next checkpoint trains the same steps again and writes the same folder again.
"""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from pretrain.export import Exporter
from pretrain.hooks import Done
from runtime import checkpoint


class Exports:
    """The hook that writes them."""

    name = "exports"

    def __init__(self, shares: Sequence[float], exporter: Exporter, folder: Path) -> None:
        """`folder` is the one of the run."""
        self.shares = sorted(set(shares))
        self.exporter = exporter
        self.folder = folder / "exports"
        self.steps: dict[str, int] = {}  # at which each share was exported

    def state(self) -> dict[str, int]:
        return dict(self.steps)

    def restore(self, state: Mapping[str, int]) -> None:
        self.steps = dict(state)

    def after_step(self, done: Done) -> Mapping[str, float]:
        due = [s for s in self.shares if s <= done.progress and str(s) not in self.steps]
        if due:
            step = done.position.step
            checkpoint.on_rank_0(self.clear)
            target = self.folder / f"step-{step:08d}"
            self.exporter.write(target, {"step": step, "share": due[-1]})
            self.steps |= {str(share): step for share in due}
        return {}

    def clear(self) -> None:
        """Create the folder; delete exports that this run, as it was continued, never made.

        They are left when it was killed or went back before its next checkpoint, and then reached
        the share at another step. One rank calls it.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        made = {f"step-{step:08d}" for step in self.steps.values()}
        for path in self.folder.glob("step-*"):
            if path.name not in made:
                shutil.rmtree(path)
