"""Cleaning: run the steps a recipe lists, in that order, over one document.

A step is a module in `data_prep/clean/` with a `Params(Step)` table and
`clean(document, params) -> Document | Reject`, a pure function.
"""

import re
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Annotated, Any, cast

from pydantic import Field, SerializeAsAny

from data_prep.documents import Document, Reject, drop
from runtime import plugins
from runtime.recipe import RecipeTable

STEPS = "data_prep.clean"

BLANK_LINES = re.compile(r"\n{3,}")
Share = Annotated[float, Field(ge=0, le=1)]  # threshold of a rule


class Step(RecipeTable):
    """One cleaning step."""

    step: str  # file name in data_prep/clean, or the dotted path of a module elsewhere


AnyStep = Annotated[SerializeAsAny[Step], plugins.table(STEPS, "step")]


class Clean(RecipeTable):
    """What is done to every document before duplicates are looked for."""

    steps: tuple[AnyStep, ...] = Field(  # in this order; [] leaves the text as it was read
        default=cast(Any, ({"step": "unicode"},))
    )


Prepared = list[tuple[Callable[[Document, Any], Document | Reject], Step]]


def steps_of(table: Clean) -> Prepared:
    """The functions of the steps with their tables, found once for many documents."""
    return [(plugins.find(STEPS, step.step).clean, step) for step in table.steps]


def apply(steps: Prepared, document: Document) -> Document | Reject:
    """The document after all steps, or the reject of the first step that turned it away."""
    for function, params in steps:
        result = function(document, params)
        if isinstance(result, Reject):
            return result
        document = result
    return document


def clean(document: Document, table: Clean) -> Document | Reject:
    """One document through the steps of a recipe."""
    return apply(steps_of(table), document)


@cache
def function_of(step: str) -> Callable[[Document, Step], Document | Reject]:
    """The function of a step: looked up once, for it runs for every document."""
    function: Callable[[Document, Step], Document | Reject] = plugins.find(STEPS, step).clean
    return function


def with_lines(document: Document, lines: list[str], step: str) -> Document | Reject:
    """The document with these of its lines alone, or a reject if they are blank.

    Blank lines that come together because a line between them is gone become one.
    """
    text = "\n".join(lines)
    if "\n\n\n" in text:
        text = BLANK_LINES.sub("\n\n", text)
    text = text.strip("\n")
    if not text or text.isspace():
        return drop(document, f"{step}: no line is left")
    return document if text == document.text else replace(document, text=text)
