"""Tiny corpora, written anew for each test."""

import json
import random
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from runtime import provenance

ROOT = Path(__file__).resolve().parents[2]
WORDS = [
    "river",
    "stone",
    "window",
    "garden",
    "letter",
    "morning",
    "engine",
    "paper",
    "market",
    "winter",
    "copper",
    "silver",
    "harbour",
    "protein",
    "enzyme",
    "receptor",
    "kinase",
    "tissue",
    "statute",
    "clause",
    "tenant",
    "court",
    "return",
    "yield",
    "class",
    "import",
    "数据",
    "模型",
    "语言",
    "中文",
    "文本",
    "训练",
    "café",
    "naïve",
    "😀",
]


def texts(count: int, seed: int) -> list[str]:
    """Distinct texts of a few to a few hundred words, with newlines, tabs and runs of spaces."""
    rng = random.Random(seed)
    found = []
    for number in range(count):
        words = rng.choices(WORDS, k=rng.randint(5, 120))
        words += ["".join(rng.choices("aeiourstlnm", k=rng.randint(2, 9))) for _ in words]
        rng.shuffle(words)
        gaps = rng.choices([" ", " ", " ", "  ", "\n", "\n    ", "\t", ", ", ". "], k=len(words))
        body = "".join(word + gap for word, gap in zip(words, gaps, strict=True))
        found.append(f"{body}[MASK] <s> {seed}-{number}")
    return found


def write_jsonl(path: Path, found: Iterable[str]) -> Path:
    rows = [json.dumps({"id": f"d{i}", "text": text}) for i, text in enumerate(found)]
    path.write_text("".join(row + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture
def corpus_recipe(tmp_path: Path) -> Path:
    return write_corpus_recipe(tmp_path)


def write_corpus_recipe(tmp_path: Path) -> Path:
    """A recipe with two sources in several units, repeats within and across them."""
    first, second = texts(300, seed=1), texts(200, seed=2)
    write_jsonl(tmp_path / "first.jsonl", first + first[:7])
    write_jsonl(tmp_path / "second.jsonl", second[:100] + first[10:15] + second[100:])
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(
        f"""
        name = "tiny"
        output = "{tmp_path}/out"
        [sources.first]
        reader = "jsonl"
        domain = "one"
        path = "{tmp_path}/first.jsonl"
        id = "id"
        unit_bytes = 20_000
        [sources.second]
        reader = "jsonl"
        domain = "two"
        path = "{tmp_path}/second.jsonl"
        id = "id"
        unit_bytes = 15_000
        [tokenizer]
        vocab_size = 512
        [packing]
        sequence_length = 64
        shard_tokens = 8_000
        valid_share = 0.05
        """
    )
    return recipe


def command(recipe: Path, *overrides: str, **options: Any) -> "subprocess.CompletedProcess[str]":
    """Run `python -m data_prep` to its end."""
    return subprocess.run(
        [sys.executable, "-m", "data_prep", str(recipe), *overrides],
        cwd=ROOT, capture_output=True, text=True, timeout=300, **options,
    )  # fmt: skip


def start(recipe: Path, *overrides: str) -> "subprocess.Popen[bytes]":
    """Start `python -m data_prep` in a process group of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "data_prep", str(recipe), *overrides],
        cwd=ROOT, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip


def content(folder: Path) -> dict[str, str]:
    """A hash of every file of a finished corpus but run.json, which says when and how it was made.

    Hashes, so that a failing comparison names the files and stays short.
    """
    return {
        str(path.relative_to(folder)): provenance.file_fingerprint(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "run.json"
    }
