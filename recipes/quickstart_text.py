"""The text of the quickstart: what a Python environment holds, read without importing it.

Docstrings and code of source files (by `ast`), sentences whose reStructuredText roles say what they
mention, licence files, and the language reference. Used by quickstart_corpus.py.
"""

import ast
import random
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import xxhash

ROLES = {
    "class": "CLASS",
    "func": "FUNCTION",
    "meth": "METHOD",
    "attr": "ATTRIBUTE",
    "mod": "MODULE",
    "exc": "EXCEPTION",
}
MARKUP = re.compile(
    r":(?:[a-z]+:)?(?P<role>[a-z]+):`(?P<body>[^`]{1,160})`"
    r"|``(?P<literal>[^`]+)``|`(?P<quoted>[^`\n]+)`_{0,2}|\*\*(?P<bold>[^*\n]+)\*\*"
)
WORD = re.compile(r"\w+")
SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[A-Z`:(])")
LICENCE_NAME = re.compile(r"licen[cs]e|copying|notice", re.IGNORECASE)
SHORT, LONG = 10, 60  # words of a sentence
MAX_STRING = 80  # characters of a string constant that stays in a source document
MAX_CODE = 20_000  # characters; longer sources are cut at a line and counted
OVERLAP_WORDS = 10  # a run of so many shared words counts as a copy
ORDER_WORDS = (10, 40)  # fewest and most of a row of the order task
WORDS_PER_SWAP = 3


@dataclass(frozen=True)
class Places:
    """Where text is read from."""

    standard_library: Path
    packages: Path
    system_licences: Path = Path("/usr/share/common-licenses")


@dataclass(frozen=True)
class Document:
    """One text and where it comes from."""

    id: str
    text: str
    library: str
    split: str


@dataclass
class File:
    """What one source file yields."""

    library: str
    split: str
    docstrings: list[Document] = field(default_factory=list)
    mentions: list[dict[str, Any]] = field(default_factory=list)
    code: Document | None = None
    num_unreadable: int = 0
    num_cut: int = 0


def hash_of(key: str) -> int:
    return int(xxhash.xxh3_64_intdigest(key.encode("utf-8", errors="replace")))


def split_of(name: str) -> str:
    """The split a file belongs to, by the hash of its path: 76 % train, 9 % dev, 15 % test."""
    share = hash_of(f"split/{name}") % 100
    return "train" if share < 76 else "dev" if share < 85 else "test"


def plain(text: str) -> tuple[str, list[tuple[int, int, str]]]:
    """Remove reStructuredText markup; return the text and the (start, end, type) it mentioned."""
    parts: list[str] = []
    spans = []
    length = last = 0
    for match in MARKUP.finditer(text):
        before = text[last : match.start()]
        last = match.end()
        role, body = match["role"], match["body"]
        shown = shown_text(body) if body else match["literal"] or match["quoted"] or match["bold"]
        length += len(before)
        if role in ROLES and re.fullmatch(r"[\w.]+", shown):
            spans.append((length, length + len(shown), ROLES[role]))
        length += len(shown)
        parts += [before, shown]
    parts.append(text[last:])
    return "".join(parts), spans


def shown_text(body: str) -> str:
    """What Sphinx shows for the text of a role: the title, or the last name after a tilde."""
    title, angle, _ = body.partition("<")
    if angle and title.strip():
        return title.strip()
    target = body.strip("<> !").removesuffix("()")
    return target[1:].rsplit(".", 1)[-1] if target.startswith("~") else target.lstrip(".")


def extract(name: str, path: Path) -> File:
    """Read one source file: its docstrings, its mentions, and its code without long strings."""
    library = name.partition("/")[0]
    file = File(library, split_of(name))
    try:
        source = path.read_text(encoding="utf-8")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # invalid escapes in other people's files
            tree = ast.parse(source)
    except (OSError, ValueError, SyntaxError, RecursionError):
        file.num_unreadable = 1
        return file
    for node in ast.walk(tree):
        if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        raw = ast.get_docstring(node)
        if not raw or len(raw) < MAX_STRING:
            continue
        label = "" if isinstance(node, ast.Module) else f"{node.name}:{node.lineno}"
        document_id = f"{name}#{label}"
        file.docstrings.append(Document(document_id, plain(raw)[0], library, file.split))
        file.mentions += mention_rows(document_id, raw)
    code = without_long_strings(source, tree)
    file.num_cut = int(len(code) > MAX_CODE)
    code = code[:MAX_CODE].rpartition("\n")[0] if file.num_cut else code
    file.code = Document(name, code, library, file.split)
    return file


def without_long_strings(source: str, tree: ast.Module) -> str:
    """The source with docstrings and other long string constants replaced by an empty one."""
    content = source.encode("utf-8")
    starts = [0]
    for line in content.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    ranges = sorted(
        (starts[node.lineno - 1] + node.col_offset, starts[node.end_lineno - 1] + end)
        for node in ast.walk(tree)
        if isinstance(node, ast.JoinedStr)
        or (isinstance(node, ast.Constant) and isinstance(node.value, str))
        if node.end_lineno is not None and (end := node.end_col_offset) is not None
    )
    parts, last = [], 0
    for start, stop in ranges:
        if start >= last and stop - start > MAX_STRING:  # not inside the one before
            parts += [content[last:start], b'""']
            last = stop
    text = b"".join([*parts, content[last:]]).decode("utf-8", errors="ignore")
    return re.sub(r"\n\s*\"\"[ \t]*(?=\n)", "\n", text)  # a docstring's place


def mention_rows(document_id: str, docstring: str) -> Iterator[dict[str, Any]]:
    """The sentences of a docstring that mention something by a role."""
    for number, paragraph in enumerate(re.split(r"\n\s*\n", docstring)):
        if ">>>" in paragraph or paragraph.lstrip().startswith(".. "):
            continue
        for place, sentence in enumerate(SENTENCE_END.split(" ".join(paragraph.split()))):
            text, spans = plain(sentence)
            if spans and SHORT <= len(WORD.findall(text)) <= LONG:
                yield {
                    "id": f"{document_id}/{number}.{place}",
                    "text": text,
                    "spans": [{"start": s, "end": e, "label": t} for s, e, t in spans],
                }


def licences(places: Places) -> Iterator[Document]:
    """Licence files of Python, of every installed package and of the system."""
    found = [places.standard_library / "LICENSE.txt"]
    found += [
        path
        for folder in places.packages.glob("*.dist-info")
        for path in folder.rglob("*")
        if LICENCE_NAME.search(path.name)
    ]
    if places.system_licences.is_dir():
        found += [path for path in places.system_licences.iterdir() if not path.is_symlink()]
    for path in sorted(found):
        if path.is_file() and path.suffix not in {".py", ".pyc", ".json"}:
            text = path.read_bytes().decode("utf-8", errors="replace")
            yield Document("/".join(path.parts[-3:]), text, "", "train")


def topics(places: Places) -> Iterator[Document]:
    """The language reference that `help()` shows, read without importing it."""
    path = places.standard_library / "pydoc_data" / "topics.py"
    if not path.is_file():
        return
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Dict):
            for key, value in ast.literal_eval(node).items():
                yield Document(f"topics/{key}", plain(value)[0], "", "train")
            return


def order_row(document: Document) -> dict[str, Any] | None:
    """The beginning of a docstring's prose, as it is or disturbed; None if it is too short."""
    lines = [
        line
        for line in document.text.splitlines()
        if not line.lstrip().startswith((">>>", "...", ".. ", "import ", "from ", "---", "==="))
    ]
    fewest, most = ORDER_WORDS
    words = " ".join(lines).split()[:most]
    if len(words) < fewest:
        return None
    original = " ".join(words)
    rng = random.Random(document.id)
    label = rng.choice(("intact", "swapped"))
    if label == "swapped":
        for _ in range(len(words) // WORDS_PER_SWAP):
            at = rng.randrange(len(words) - 1)
            words[at], words[at + 1] = words[at + 1], words[at]
    text = " ".join(words)
    if (text == original) != (label == "intact"):
        return None  # equal words were swapped
    return {"id": document.id, "text": text, "label": label, "original": original}


def word_runs(text: str) -> Iterator[str]:
    """Every run of OVERLAP_WORDS words, lower case; the whole text if it is shorter."""
    words = WORD.findall(text.lower())
    for start in range(max(1, len(words) - OVERLAP_WORDS + 1)):
        yield " ".join(words[start : start + OVERLAP_WORDS])


def row_runs(row: dict[str, Any]) -> Iterator[str]:
    """The word runs of a row as its docstring had them."""
    return word_runs(as_written(row))


def as_written(row: dict[str, Any]) -> str:
    """The text of a row before its words were swapped."""
    return str(row.get("original", row["text"]))
