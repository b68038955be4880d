"""Any JSON of a report as tables: what a plug-in, an augmentation or an exporter measured is shown
as it is, without this file knowing its names."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Cell = str | int | float | None
BYTES = 1e6  # of a megabyte


@dataclass(frozen=True)
class Table:
    """Rows of cells under a head; numbers are formatted where they are shown."""

    title: str
    head: list[str]
    rows: list[list[Cell]]


def of(value: Any, title: str = "") -> list[Table]:
    """A list of objects, or an object of objects, is one table; an object of plain values one row;
    what is nested deeper becomes tables of its own, titled by their keys."""
    if is_rows(value):
        return [of_rows(value, title)]
    if not isinstance(value, Mapping) or not value:
        return []
    if all(isinstance(each, Mapping) and is_flat(each) for each in value.values()):
        rows = [{"": words(name), **each} for name, each in value.items()]
        return [of_rows(rows, title)] if len(rows) > 1 else of_one(rows[0], title)
    plain = {name: each for name, each in value.items() if is_plain(each)}
    tables = of_one(plain, title) if plain else []
    for name, each in value.items():
        if not is_plain(each):
            tables += of(each, f"{title}: {words(name)}" if title else words(name))
    return tables


def of_one(row: Mapping[str, Any], title: str) -> list[Table]:
    return [of_rows([row], title)]


def of_rows(rows: Sequence[Mapping[str, Any]], title: str) -> Table:
    """One line each, with a column for every key of any of them."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    return Table(
        title,
        [words(name) for name in names],
        [[cell(row.get(name)) for name in names] for row in rows],
    )


def is_rows(value: Any) -> bool:
    return (
        isinstance(value, Sequence)
        and not isinstance(value, str)
        and bool(value)
        and all(isinstance(each, Mapping) for each in value)
    )


def is_flat(value: Mapping[str, Any]) -> bool:
    return all(is_plain(each) for each in value.values())


def is_plain(value: Any) -> bool:
    """It fits a cell: a value, or a list of values."""
    if isinstance(value, list | tuple):
        return all(is_plain(each) for each in value)
    return value is None or isinstance(value, str | int | float)


def cell(value: Any) -> Cell:
    """A value as it stands in a table; what is nested in words."""
    if value is None or isinstance(value, str | float) or type(value) is int:
        return value
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return ", ".join(f"{words(name)} {shown(each)}" for name, each in value.items())
    if isinstance(value, Iterable):
        return ", ".join(shown(each) for each in value)
    return str(value)


def shown(value: Any) -> str:
    """A cell as people read it: counts with separators, scores with four digits, what is very
    small or large as a power."""
    found = cell(value)
    if found is None:
        return ""
    if isinstance(found, int):
        return f"{found:,}"
    if isinstance(found, float):
        is_usual = found == 0 or 1e-3 <= abs(found) < 1e6
        return f"{found:,.4f}" if is_usual else f"{found:.2e}"
    return found


def words(name: str) -> str:
    return name.replace("_", " ")
