"""The stages of a pipeline, their folders, and whether a stage is already done.

Each stage reads the folder of the one before it and writes one folder of its own, whose
`manifest.json` is written last. The manifest holds the `inputs` fingerprint of everything the stage
depended on: a stage whose inputs have not changed is skipped. Each package says what it would do in
`<package>.plan.plan(recipe)`, which imports no torch; stages are found by name here, so that
launchers need not import them.
"""

from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, cast

from runtime import provenance
from runtime.recipe import RecipeTable

STAGES = ("data_prep", "pretrain", "finetune")
MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Plan:
    """What running a stage would do."""

    stage: str
    folder: Path  # where it writes
    inputs: str  # fingerprint of all it depends on: recipe tables and input files
    lines: list[str] = field(
        default_factory=list
    )  # for people: documents, tokens, steps, disk, time
    pending: str | None = None  # why nothing can be said yet, for example "waits for data_prep"
    parts: tuple["Plan", ...] = ()  # finetune: one plan a task

    @property
    def is_done(self) -> bool:
        """True if the folder's manifest was written from exactly these inputs."""
        if self.parts:
            return all(part.is_done for part in self.parts)
        manifest = self.folder / MANIFEST
        if self.pending or not manifest.is_file():
            return False
        return bool(provenance.read_json(manifest).get("inputs") == self.inputs)


def folder(output: Path, stage: str) -> Path:
    """The folder a stage of this pipeline writes."""
    return output / {"data_prep": "data", "pretrain": "pretrain", "finetune": "finetune"}[stage]


def plan(stage: str, recipe: RecipeTable) -> Plan:
    """Ask a stage what it would do with this recipe."""
    return cast(Plan, import_module(f"{stage}.plan").plan(recipe))


def is_wanted(stage: str, recipe: Any) -> bool:
    """A stage runs if the recipe has the tables it needs: sources, model, tasks."""
    return bool(
        getattr(
            recipe, {"data_prep": "sources", "pretrain": "model", "finetune": "tasks"}[stage], None
        )
    )
