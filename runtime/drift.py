"""How a run differs from what its checkpoint was made with, and which differences can be accepted.

Both sides are nested JSON under the recipe's key paths, so that a difference is named as a person
would write it: `train.global_batch_size: 16 -> 32`. A key that one side lacks counts as null: a
recipe field that is new and unset is no difference.
"""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from runtime.errors import DataError

# What cannot change while a run continues, and why.
FIXED = {
    "model": "weights do not fit another model",
    "tokenizer": "weights belong to the ids of their tokenizer",
    "labels": "a head has one output a label",
    "engine.precision": "shards are laid out for their precision",
    "optimizer.name": "moments mean nothing to another optimizer",
}
SHOWN = 30  # differences in a message

Changes = dict[str, tuple[Any, Any]]  # key path: value in the checkpoint, value of this run


def changes(saved: Any, wanted: Any, path: str = "") -> Changes:
    """Every key path at which two nested JSON values differ, in alphabetical order."""
    if not (isinstance(saved, Mapping) and isinstance(wanted, Mapping)):
        return {} if saved == wanted else {path: (saved, wanted)}
    found: Changes = {}
    for key in sorted({*saved, *wanted}):
        inner = f"{path}.{key}" if path else key
        found |= changes(saved.get(key), wanted.get(key), inner)
    return found


def as_json(identity: Mapping[str, Any]) -> dict[str, Any]:
    """The identity as a manifest holds it: tuples become lists, paths become strings."""
    return dict(json.loads(json.dumps(identity, default=str)))


def check(
    checkpoint: Path, saved: Mapping[str, Any], wanted: Mapping[str, Any], accepts_drift: bool
) -> Changes:
    """The accepted differences. Raises DataError naming each one that is not accepted."""
    found = changes(saved, as_json(wanted))
    fixed = [key for key in found if why_fixed(key) is not None]
    if not found or (accepts_drift and not fixed):
        return found
    tables = " and ".join(sorted({key.partition(".")[0] for key in found}))
    remedy = (
        "restore those, or set another `output` to start anew"
        if fixed
        else "restore them, set another `output` to start anew, or continue all the same with "
        "--accept-drift"
    )
    raise DataError(
        f"the checkpoint {checkpoint} was made with another {tables} (saved -> this run):\n"
        f"{described(found)}\n{remedy}"
    )


def why_fixed(key: str) -> str | None:
    """Why a difference at this key path can never be accepted; None: it can."""
    reasons = (why for path, why in FIXED.items() if key == path or key.startswith(f"{path}."))
    return next(reasons, None)


def described(found: Changes) -> str:
    """One line a difference."""
    lines = []
    for key, (saved, wanted) in list(found.items())[:SHOWN]:
        reason = why_fixed(key)
        suffix = f"  (cannot be accepted: {reason})" if reason else ""
        lines.append(f"  {key}: {shown(saved)} -> {shown(wanted)}{suffix}")
    if len(found) > SHOWN:
        lines.append(f"  and {len(found) - SHOWN} more")
    return "\n".join(lines)


def shown(value: Any) -> str:
    return "(not set)" if value is None else json.dumps(value, ensure_ascii=False)


def entry(step: int, found: Changes) -> dict[str, Any]:
    """What is recorded of an accepted drift: the step it was accepted at, when, and what."""
    return {
        "step": step,
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "changes": {key: list(values) for key, values in found.items()},
    }
