"""Values that shells, quoting and encodings trip over, and the lines of a file that give them."""

import json
import random
import re

CHARACTERS = (
    *"\"'`$\\!#%&;|<>(){}[]*?~=,: \t\n\r",
    "$(id)",
    "${HOME}",
    "%h",
    "%%",
    "é",
    "中",
    "🙂",
)
BY_HAND = (
    *("", " ", "  two  ", "\t", "\n", "a\nb\n", "'", '"', "''", '""', "\\", "\\\\", "a\\", "\\n"),
    *(
        "$",
        "$$",
        "$HOME",
        "${HOME}",
        "$(touch x)",
        "`id -u`",
        "a`id`",
        "!",
        "!!",
        "#",
        "#a",
        "a #b",
    ),
    *("'a b'", '"a b"', "a'b\"c", "'; exit 3; '", '"; exit 3; "', "a;b", "a&&b", "a|b", ">x", "<x"),
    *("*", "?", "[a]", "{a,b}", "~", "~root", "=", "a=b=c", "-n", "--", "%n", "%h", "50%", "%%u"),
    *("é", "中文", "🙂", "e\u0301", "\u200b", "\u2028", "\ufeffx", "\x01", "\x7f", "\r", "a\r\nb"),
    *("export A=b", "A=b", "[1, 2]", '{"a": "b"}', "null", "true", "0x7f", "\x1etextmill {}"),
)


def values(count: int) -> list[str]:
    """So many nasty values, the same at every call."""
    rng = random.Random(7)
    found = [*BY_HAND, "x" * 5000]
    while len(found) < count:
        found.append("".join(rng.choices([*CHARACTERS, "a", "B", "7"], k=rng.randint(1, 24))))
    return found[:count]


def line(name: str, value: str) -> str:
    """The line of an environment file that gives a value: as it is, if it can be."""
    is_quoted = value[:1] == '"' or (value[:1] == value[-1:] == "'")
    is_plain = value == value.strip() and "\n" not in value and not is_quoted
    return f"{name}={value if is_plain else json.dumps(value)}\n"


# DeepSpeed's runner takes a carriage return for a line's end, puts double quotes around a value and
# escapes nothing; then pdsh replaces %h, %n, %u and %%, and a shell does the rest.
CHANGED = re.compile(r"[\"$`\\\r]|%[%hnu]")


def survives_deepspeed(name: str, value: str) -> bool:
    """True if docs/hostfile.md promises a value also with the plain `deepspeed` command."""
    is_plain = line(name, value) == f"{name}={value}\n"
    return is_plain and CHANGED.search(value) is None
