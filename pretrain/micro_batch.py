"""What one forward of one rank is given."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class MicroBatch:
    """What one forward of one rank needs, and what it counts for."""

    inputs: dict[str, Any]
    num_targets: int
    num_tokens: int  # without padding
