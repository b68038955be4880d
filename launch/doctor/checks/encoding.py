"""Text is UTF-8 wherever nobody says otherwise: corpora, recipes and logs are."""

import codecs
import locale
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from launch.doctor.finding import Finding, fault
from launch.doctor.plan import Asked, Plan

WANTED = "utf-8"


@dataclass(frozen=True)
class Seen:
    text: str  # of files opened without an encoding
    names: str  # of file names


def look(asked: Asked) -> Seen:
    return Seen(
        codecs.lookup(locale.getpreferredencoding(False)).name,
        codecs.lookup(sys.getfilesystemencoding()).name,
    )


def judge(seen: Mapping[str, Seen], plan: Plan) -> Iterator[Finding]:
    for host, found in seen.items():
        if found.text != WANTED or found.names != WANTED:
            yield fault(
                host,
                f"Python reads text as {found.text} and file names as {found.names} there",
                f"set `LC_ALL=C.UTF-8` (or `PYTHONUTF8=1`) in {plan.variables}, and unset "
                "PYTHONUTF8=0 and PYTHONCOERCECLOCALE=0",
            )
