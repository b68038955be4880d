"""Whether the update of this step is applied: asked once, when the gradient norm is known.

DeepSpeed computes the global gradient norm, then calls the inner optimizer once per parameter group
(or part of one). Every optimizer of this package passes this gate first; when it is shut, nothing
but empty states comes into being. An update with a norm that is not finite is never applied.
"""

import math
from collections.abc import Callable


class Gate:
    """Shut or open for one step after another."""

    def __init__(self, read_norm: Callable[[], float]) -> None:
        self.read_norm = read_norm  # of the gradient of this step, before clipping
        self.accepts: Callable[[float], bool] = lambda norm: False
        # Shut until the first step: DeepSpeed's bf16 optimizer of stage 0 makes a step of its own
        # when it is built, and its bias correction would count it.
        self.norm: float | None = math.nan
        self.verdict = False

    def begin(self, accepts: Callable[[float], bool]) -> None:
        """Start a step; `accepts` is asked when the norm is first needed."""
        self.accepts = accepts
        self.norm = None

    def is_open(self) -> bool:
        """The verdict on this step."""
        if self.norm is None:
            norm = self.read_norm()
            self.norm = norm if norm >= 0 else math.nan  # -1 is DeepSpeed's mark of an invalid norm
            self.verdict = self.accepts(self.norm) and math.isfinite(self.norm)
        return self.verdict
