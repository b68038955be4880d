"""For PYTHONPATH: the ranks that a launcher starts wait as tests/faults/pauses.py says.

Python imports a module of this name at its start. The moments are put in as soon as the rank has
imported the training loop, by itself and when it wants to.
"""

import os
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

PLAN = "TEXTMILL_PAUSES"
LOOP = "pretrain.train"


class Finder:
    """Finds the training loop, once."""

    @classmethod
    def find_spec(
        cls, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != LOOP:
            return None
        sys.meta_path.remove(cls)
        found = PathFinder.find_spec(name, path, target)
        assert found is not None
        assert found.loader is not None
        execute = found.loader.exec_module

        def and_pause(module: ModuleType) -> None:
            execute(module)
            from tests.faults import pauses

            pauses.install(os.environ[PLAN])

        found.loader.exec_module = and_pause  # type: ignore[method-assign]
        return found


if PLAN in os.environ and "RANK" in os.environ:
    sys.meta_path.insert(0, Finder)
