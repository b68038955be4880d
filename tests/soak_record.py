"""Pytest plugin of `make soak`: tests/faults/soak.json says how every case of the long set ended.

The newest outcome of each case is kept, so the set can be run in pieces (`pytest -k`) and over
several days. A case may say how many faults it stands for by `record_property("faults", number)`.
"""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from runtime import provenance

PATH = Path(__file__).with_name("faults") / "soak.json"


class Record:
    """Where the reports of all workers come together."""

    def __init__(self) -> None:
        self.cases: dict[str, dict[str, Any]] = {}

    @pytest.hookimpl
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        case = self.cases.setdefault(report.nodeid, {"outcome": "passed", "seconds": 0.0})
        case["seconds"] = round(case["seconds"] + report.duration, 1)
        if report.outcome != "passed" and case["outcome"] != "failed":
            case["outcome"] = report.outcome
        case["faults"] = dict(report.user_properties).get("faults", 1)

    @pytest.hookimpl
    def pytest_sessionfinish(self) -> None:
        git = provenance.git_state()
        told = {
            "date": datetime.now(UTC).date().isoformat(),
            "commit": git["commit"][:12] if git else None,
        }
        kept = read()["cases"] | {
            name: {**case, **told} for name, case in self.cases.items() if case["seconds"]
        }
        provenance.write_json(
            PATH, {"totals": totals(kept), "cases": {name: kept[name] for name in sorted(kept)}}
        )


def read() -> dict[str, Any]:
    if not PATH.exists():
        return {"cases": {}}
    found: dict[str, Any] = json.loads(PATH.read_text(encoding="utf-8"))
    return found


def totals(cases: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, int]]:
    """Of each test its cases by outcome, and the faults of those that passed."""
    found: dict[str, dict[str, int]] = {}
    for name, case in sorted(cases.items()):
        row = found.setdefault(name.split("[")[0], {})
        row[case["outcome"]] = row.get(case["outcome"], 0) + 1
        if case["outcome"] == "passed":
            row["faults"] = row.get("faults", 0) + case["faults"]
    return found


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):  # a worker of xdist, whose reports the others get
        config.pluginmanager.register(Record())
