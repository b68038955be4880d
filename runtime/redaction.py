"""Secrets stay out of what is printed and logged.

A variable is secret by its name (`is_secret`); a password or a signature inside a URL is secret
wherever it stands. `redacted` replaces the values of secret variables, in the spellings in which
programs print them, and what looks like a secret by itself: `NAME=value`, credentials and
signatures of URLs, authorization headers. What no rule can know, such as a password under a name
that says nothing, is printed as it is.
"""

import json
import re
import shlex
from collections.abc import Callable, Iterator, Mapping
from urllib.parse import quote, unquote

HIDDEN = "***"
SECRET = re.compile(
    r"TOKEN(?!IZ)|SECRET|PASSW|PASSPHRASE|CREDENTIAL|PRIVATE|SIGNATURE|COOKIE|JWT|BEARER|"
    r"KEY(?!BOARD)|AUTH(?!_SOCK|OR)|(?<=.)_PWD$|(?<=.)_PASS$",
    re.IGNORECASE,
)
# Where a secret lies is none, nor of what kind it is; these would hide the names of folders and
# such words as "token" (RAY_AUTH_MODE, which Ray sets) in every line.
ABOUT = ("DIR", "PATH", "HOME", "FILE", "SOCK", "MODE", "TYPE", "METHOD")
PLAIN = re.compile(r"[\d.,+-]{0,9}|true|false|yes|no|on|off|none|null|auto", re.IGNORECASE)
SHORTEST = 4  # characters; a shorter value is hidden only where its name stands beside it
WHOLE_WORD = 8  # shorter values are hidden only where they are no part of a longer word

VALUE = r"(?:\"(?:[^\"\\]|\\.)*\"|'[^']*'|[^\s;&|\"']+)"
ASSIGNED = re.compile(
    rf"\b(?P<name>[A-Z][A-Z0-9_]*|[\w.-]*(?:password|passwd|secret|api_key|access_key|"
    rf"secret_key|credentials))=(?P<value>{VALUE})"
)
LOGIN = re.compile(r"(?<![\w+.-])([a-zA-Z][\w+.-]*://)[^\s/?#\"']*@")
SIGNED = re.compile(
    r"([?&][\w-]*(?:token|signature|sig|secret|password|credential|key(?:id)?)=)[^&\s\"'#]+",
    re.IGNORECASE,
)
HEADER = re.compile(r"\b(bearer|basic)(\s+)[\w.~+/=-]{12,}", re.IGNORECASE)

Hide = Callable[[str], str]


def is_secret(name: str) -> bool:
    """True if the value of a variable of this name must not be shown."""
    return bool(SECRET.search(name)) and not name.upper().endswith(ABOUT)


def redacted(text: str, environment: Mapping[str, str]) -> str:
    """The text without what is secret in it or in the environment."""
    return redactor(environment)(text)


def redactor(environment: Mapping[str, str]) -> Hide:
    """What redacts many texts for one environment."""
    values = sorted({form for value in secrets(environment) for form in forms(value)}, key=len)
    patterns = [
        rf"(?<!\w){re.escape(value)}(?!\w)" if len(value) < WHOLE_WORD else re.escape(value)
        for value in reversed(values)  # the longest first: it may hold another
    ]
    known = re.compile("|".join(patterns)) if patterns else None

    def hide(text: str) -> str:
        if known is not None:
            text = known.sub(HIDDEN, text)
        text = ASSIGNED.sub(assigned, text)
        if "://" in text:
            text = LOGIN.sub(rf"\1{HIDDEN}@", text)
            text = SIGNED.sub(rf"\1{HIDDEN}", text)
        return HEADER.sub(rf"\1\2{HIDDEN}", text)

    return hide


def assigned(match: re.Match[str]) -> str:
    name = match["name"]
    return f"{name}={HIDDEN}" if is_secret(name) else match[0]


def secrets(environment: Mapping[str, str]) -> Iterator[str]:
    """The values to be hidden wherever they are printed."""
    for name, value in environment.items():
        if is_secret(name):
            found = [value, *value.splitlines()] if "\n" in value else [value]
            yield from (part for part in found if is_worth_hiding(part))
        if "://" in value:
            for match in LOGIN.finditer(value):
                password = match[0].rpartition("@")[0].partition("://")[2].partition(":")[2]
                yield from filter(is_worth_hiding, {password, unquote(password)})


def is_worth_hiding(value: str) -> bool:
    """False for numbers and switches, which stand in every log for something else."""
    return len(value.strip()) >= SHORTEST and PLAIN.fullmatch(value.strip()) is None


def forms(value: str) -> set[str]:
    """The spellings in which a value is printed: as it is, escaped, in a URL, for a shell."""
    escaped = {json.dumps(value)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1]}
    return {value, value.strip(), repr(value)[1:-1], shlex.quote(value), quote(value), *escaped}
