"""The encoder a task starts from: its folder, its tokenizer, and whether the two belong together.

Refuses a folder whose tokenizer is not the one the encoder was trained with (the fingerprint in
textmill.json) or gives ids the encoder has no embedding for.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import snapshot_download
from transformers import AutoConfig

from finetune.model_folder import facts_of, load_tokenizer
from finetune.tokenizer import Tokenizer
from runtime import processes, provenance
from runtime.errors import DataError, RecipeError

TOKENIZER_FILES = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
    "vocab.txt", "vocab.json", "merges.txt", "tokenizer.model", "spiece.model",
    "sentencepiece.bpe.model", "token_bytes.npy",
)  # fmt: skip
HUB_FILES = ["*.json", "*.txt", "*.model", "*.safetensors"]
LONGEST_DEFAULT = 512


@dataclass(frozen=True)
class Encoder:
    """A checked encoder folder."""

    folder: Path
    tokenizer: Tokenizer
    tokenizer_fingerprint: str
    fingerprint: str  # of weights and configuration
    longest: int  # tokens, special ones included, that the model has positions for
    # what pretraining recorded of evaluation sets in its text, by set; None: not known
    decontamination: dict[str, Any] | None = None


def load(name: str) -> Encoder:
    """Open an encoder by folder or hub id. All ranks call it. Raises DataError if it is unfit."""
    folder = locate(name)
    tokenizer, fingerprint = load_tokenizer(folder)
    config = AutoConfig.from_pretrained(folder)
    if tokenizer.vocab_size > config.vocab_size:
        raise DataError(
            f"the tokenizer in {folder} has {tokenizer.vocab_size} tokens, the encoder embeds "
            f"{config.vocab_size}: they do not belong together; use the folder as it was exported"
        )
    weights = sorted([*folder.glob("*.safetensors"), folder / "config.json"])
    return Encoder(
        folder,
        tokenizer,
        fingerprint,
        provenance.files_fingerprint(weights),
        num_positions(config, tokenizer.pad_id),
        facts_of(folder).get("decontamination"),
    )


def locate(name: str) -> Path:
    """The folder of an encoder; a hub id is downloaded by rank 0 first."""
    folder = Path(name)
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise DataError(f"the encoder folder {folder} has no config.json; is it an export?")
        return folder
    if name.count("/") > 1 or name.startswith((".", "/", "~")):
        raise DataError(
            f"the encoder folder {name} does not exist; run pretrain first or correct it"
        )
    fault: str | None = None
    for turn in (processes.rank() == 0, processes.rank() != 0):
        if turn and fault is None:
            try:
                folder = Path(snapshot_download(name, allow_patterns=HUB_FILES))
            except (OSError, ValueError) as error:
                fault = str(error).strip().splitlines()[0]
        fault = next((found for found in processes.gather(fault) if found), None)
    if fault is not None:
        raise DataError(
            f"encoder {name!r} is neither a folder nor reachable as a hub id ({fault}); check the "
            "name and the network, or set `encoder` to a local folder"
        )
    return folder


def num_positions(config: Any, pad_id: int) -> int:
    """The longest input a model has positions for."""
    positions = getattr(config, "max_position_embeddings", None) or LONGEST_DEFAULT
    # This family counts positions from padding_idx + 1.
    offset = pad_id + 1 if "roberta" in config.model_type else 0
    return int(positions) - offset


def input_length(wanted: int | None, longest: int, task: str) -> int:
    """Tokens per model input. Raises RecipeError if the recipe asks for more than there is."""
    if wanted is None:
        return min(longest, LONGEST_DEFAULT)
    if wanted > longest:
        raise RecipeError(
            f"tasks.{task}.max_length ({wanted}) exceeds the encoder's {longest} positions; "
            f"set at most {longest}"
        )
    return wanted


def copy_tokenizer(source: Path, target: Path) -> None:
    """Copy a tokenizer's files byte by byte into a folder of their own."""
    target.mkdir(parents=True, exist_ok=True)
    for name in TOKENIZER_FILES:
        if (source / name).is_file():
            shutil.copyfile(source / name, target / name)
