"""What a model's folder holds beside its weights: its facts and its tokenizer. Torch-free.

tokenizer.json alone says which ids a text gives, in training and in serving as in data preparation;
the files beside it only name the special tokens.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer as Backend

from data_prep.tokenizer import OTHER_ROLE, USUAL_NAMES, load_json, settings_of
from finetune.tokenizer import Tokenizer
from runtime import provenance
from runtime.errors import DataError

FACTS = "textmill.json"


def facts_of(folder: Path) -> dict[str, Any]:
    """What the run that exported a folder wrote beside it; nothing for a model from elsewhere."""
    path = folder / FACTS
    return dict(provenance.read_json(path)) if path.is_file() else {}


def load_tokenizer(folder: Path) -> tuple[Tokenizer, str]:
    """The tokenizer of a model folder and its fingerprint, checked against textmill.json."""
    path = folder / "tokenizer.json"
    if not path.is_file():
        raise DataError(
            f"{folder} has no tokenizer.json; write one with "
            "transformers.AutoTokenizer.from_pretrained(...).save_pretrained(...)"
        )
    backend, settings = load_json(path), settings_of(folder)
    pad_id = special_id(backend, settings, "pad")
    if pad_id is None:
        raise DataError(
            f"the tokenizer in {folder} has no padding token; name one as `pad_token` in "
            "tokenizer_config.json"
        )
    fingerprint = provenance.file_fingerprint(path)
    wanted = facts_of(folder).get("tokenizer")
    if wanted is not None and wanted != fingerprint:
        raise DataError(
            f"the tokenizer in {folder} ({fingerprint}) is not the one its model was trained with "
            f"({wanted}); restore tokenizer.json from the export"
        )
    cls_id, sep_id = (special_id(backend, settings, role) for role in ("cls", "sep"))
    return Tokenizer(backend, pad_id, cls_id, sep_id, has_types(folder)), fingerprint


def has_types(folder: Path) -> bool:
    """Whether the folder's model embeds token types; a folder without a model may."""
    path = folder / "config.json"
    return not path.is_file() or (provenance.read_json(path).get("type_vocab_size") or 0) > 1


def special_id(backend: Backend, settings: Mapping[str, Any], role: str) -> int | None:
    """The id of a special token: the one the settings name, else the one with a usual name."""
    stated = [settings.get(f"{key}_token") for key in (role, OTHER_ROLE.get(role, role))]
    names = [token["content"] if isinstance(token, dict) else token for token in stated]
    for name in (*names, *USUAL_NAMES[role]):
        found = backend.token_to_id(name) if isinstance(name, str) else None
        if found is not None:
            return int(found)
    return None
