"""Guard of a run: which updates are refused, and when the run goes back.

STUB: replaced by its owner, names stay.
"""

import math
from collections.abc import Mapping
from typing import Any

from pretrain.config import Guard as Table


class Guard:
    """Decides on every step before it is applied, on all ranks alike."""

    def __init__(self, table: Table) -> None:
        self.table = table
        self.refused: str | None = None  # why the last step was refused; None: it was applied
        self.in_a_row = 0  # refused steps since the last applied one

    def accepts(self, loss: float, gradient_norm: float) -> bool:
        """True if the step may be applied; called once a step, with the same values on all ranks.

        `loss` is the mean over the step's targets, `gradient_norm` before clipping.
        """
        is_fine = math.isfinite(loss) and math.isfinite(gradient_norm)
        self.refused = None if is_fine else f"loss {loss}, gradient norm {gradient_norm}"
        self.in_a_row = 0 if is_fine else self.in_a_row + 1
        return is_fine

    @property
    def goes_back(self) -> bool:
        """True when so many steps were refused in a row that the run must go back."""
        return self.in_a_row >= self.table.max_skips_in_a_row

    def state(self) -> dict[str, Any]:
        """JSON: all that later decisions depend on."""
        return {"in_a_row": self.in_a_row}

    def restore(self, state: Mapping[str, Any]) -> None:
        self.in_a_row = state["in_a_row"]
