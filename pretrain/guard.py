"""Guard of a run: which updates are refused, and when the run goes back.

An update is refused when its loss or its gradient norm is not finite, or when the norm is a spike:
above the mean of the last `window_steps` by more than `spike_sigmas` of their deviation. So does
OLMo-core skip steps (Ai2, `SkipStepOptimizer`: 6 deviations, 128 updates); here the norm alone
decides, because the loss of a mixture of sources varies with the sources. Three things keep the
rule from refusing what is no spike:

- It begins when half the window is filled (as in OLMo-core): norms fall steeply at first.
- The deviation is taken to be at least a tenth of the mean: after a window of nearly equal norms
  a small rise would else be many deviations.
- A refused norm enters the window (as in OLMo-core) unless it is not finite. If norms have risen
  for good, which happened after 150 steps of small batches, four refusals teach it: kept out, they
  would be refused for ever.

After `max_skips_in_a_row` refused updates, which must then be not finite or rise without end, the
run goes back to a checkpoint and passes over the data since then (Chowdhery et al. 2022, "PaLM",
5.1).

Decisions depend on the sequence of losses and norms alone, which are the same on all ranks.
"""

import math
from collections import deque
from collections.abc import Mapping
from typing import Any

from pretrain.config import Guard as Table

LEAST_SHARE_OF_WINDOW = 2  # spikes are looked for once 1 / this of the window is filled
LEAST_DEVIATION = 0.1  # of the mean


class Guard:
    """Decides on every update before it is applied, on all ranks alike."""

    def __init__(self, table: Table) -> None:
        self.table = table
        self.refused: str | None = None  # why the last update was refused; None: it was applied
        self.in_a_row = 0  # refused updates since the last applied one
        self.norms: deque[float] = deque(
            maxlen=table.window_steps
        )  # finite ones, of refused updates, too

    def accepts(self, loss: float, gradient_norm: float) -> bool:
        """True if the update may be applied; called once a step, with the same values on all ranks.

        `loss` is the mean over the step's targets, `gradient_norm` before clipping.
        """
        self.refused = self.fault(loss, gradient_norm)
        if math.isfinite(gradient_norm):
            self.norms.append(gradient_norm)
        self.in_a_row = 0 if self.refused is None else self.in_a_row + 1
        return self.refused is None

    def fault(self, loss: float, gradient_norm: float) -> str | None:
        """Why an update must not be applied; None if it may."""
        if not (math.isfinite(loss) and math.isfinite(gradient_norm)):
            return f"loss {loss}, gradient norm {gradient_norm}"
        limit = self.limit()
        if limit is None or gradient_norm <= limit:
            return None
        return (
            f"gradient norm {gradient_norm:.4g} is a spike: {limit:.4g} is "
            f"{self.table.spike_sigmas:g} deviations above the mean of the last "
            f"{len(self.norms)} updates"
        )

    def limit(self) -> float | None:
        """The gradient norm above which an update is a spike; None while too few are known."""
        count = len(self.norms)
        least = max(2, self.table.window_steps // LEAST_SHARE_OF_WINDOW)
        if self.table.spike_sigmas is None or count < least:
            return None
        mean = math.fsum(self.norms) / count
        variance = math.fsum((norm - mean) ** 2 for norm in self.norms) / (count - 1)
        deviation = max(math.sqrt(variance), LEAST_DEVIATION * mean)
        return mean + self.table.spike_sigmas * deviation

    @property
    def goes_back(self) -> bool:
        """True when so many updates were refused in a row that the run must go back."""
        return self.in_a_row >= self.table.max_skips_in_a_row

    def state(self) -> dict[str, Any]:
        """JSON: all that later decisions depend on, exactly."""
        return {"in_a_row": self.in_a_row, "norms": [norm.hex() for norm in self.norms]}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a state."""
        self.refused = None
        self.in_a_row = state["in_a_row"]
        self.norms.clear()
        self.norms.extend(float.fromhex(norm) for norm in state["norms"])
