"""The tokenizer of a corpus: trained on it or taken, saved as a folder AutoTokenizer loads.

The folder holds tokenizer.json (no truncation, no padding, [CLS] and [SEP] around every text),
tokenizer_config.json (`split_special_tokens`: text that spells a special token is text),
special_tokens_map.json, token_bytes.npy, and tokenizer.model where there is one. tokenizer.json is
what ids are defined by; its fingerprint travels with everything made from it.
"""

import json
import re
import shutil
from collections.abc import Callable, Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator
from tokenizers import Tokenizer as FastTokenizer
from tokenizers import processors

from data_prep import sentencepiece_model
from data_prep.shards import TokenizerFacts
from data_prep.training import byte_level, extension, sentencepiece, wordpiece
from runtime import provenance
from runtime.config import Positive, PositiveFloat
from runtime.errors import DataError
from runtime.recipe import RecipeTable

MODEL_FILE = "tokenizer.model"
ROLES = ("pad", "unk", "cls", "sep", "mask")
USUAL_NAMES = {
    "pad": ("[PAD]", "<pad>", "<|padding|>"),
    "unk": ("[UNK]", "<unk>"),
    "cls": ("[CLS]", "<s>", "<cls>"),
    "sep": ("[SEP]", "</s>", "<sep>"),
    "mask": ("[MASK]", "<mask>"),
}
OTHER_ROLE = {"cls": "bos", "sep": "eos"}  # some tokenizers name only these
BYTE_TOKEN = re.compile(r"<0x[0-9A-F]{2}>")
SAMPLING = ("sample_bytes", "source_weights")  # fields of the text to learn from
KEPT_SETTINGS = ("model_max_length", "model_input_names", "clean_up_tokenization_spaces")


Model = Literal["unigram", "bpe", "byte_bpe", "wordpiece"]


class Tokenizer(RecipeTable):
    """Train a tokenizer on the cleaned text, or take an existing one."""

    path: Path | None = None  # existing: folder with tokenizer.json, or a .model; None: train
    extend_by: Positive | None = None  # pieces learnt on the text and added to an existing one
    model: Model = "unigram"  # unigram, bpe: SentencePiece; byte_bpe: GPT-2's; wordpiece: BERT's
    vocab_size: int = Field(default=32_768, ge=448, multiple_of=64)  # trained only
    character_coverage: float = Field(default=0.9995, gt=0.9, le=1.0)  # rest: in bytes or unknown
    lowercase: bool = False  # and without accents; wordpiece only
    sample_bytes: Positive = 1 << 25  # of text to train on, drawn from the training documents
    source_weights: dict[str, PositiveFloat] = Field(default={})  # of that sample; empty: by size

    @model_validator(mode="after")
    def trains_or_takes(self) -> Self:
        if self.path is None and self.extend_by is not None:
            raise ValueError("`extend_by` adds to an existing tokenizer; give its `path`")
        of_both = {"path", "extend_by", *(SAMPLING if self.extend_by else ())}
        given = sorted(
            key for key in self.model_fields_set - of_both
            if getattr(self, key) != type(self).model_fields[key].default
        )  # fmt: skip
        if self.path is not None and given:
            raise ValueError(f"`path` takes an existing tokenizer; remove {', '.join(given)}")
        if self.lowercase and self.model != "wordpiece":
            raise ValueError(
                f'`lowercase` is for model = "wordpiece", not "{self.model}", which keeps texts as '
                "they are; lower the text by a cleaning step, or remove it"
            )
        if self.model == "byte_bpe" and "character_coverage" in given:
            raise ValueError(
                'model = "byte_bpe" spells every character in bytes; remove character_coverage'
            )
        return self

    @property
    def learns(self) -> bool:
        """True if the text of the corpus has a part in the tokenizer."""
        return self.path is None or self.extend_by is not None


def line(table: Tokenizer) -> str:
    """What a plan says of the tokenizer."""
    sample = f"on {table.sample_bytes / 1e6:,.0f} MB"
    if table.path is None:
        return f"tokenizer: train {table.vocab_size:,} pieces {sample}"
    more = f" and {table.extend_by:,} pieces learnt {sample}" if table.extend_by else ""
    return f"tokenizer: {table.path}{more}"


def inputs(table: Tokenizer) -> list[Any]:
    """Fingerprints of the files of an existing tokenizer. Raises DataError if there are none."""
    if table.path is None:
        return []
    files = [table.path] if table.path.is_file() else sorted(table.path.glob("*.json"))
    if table.path.is_dir() and (table.path / MODEL_FILE).is_file():
        files.append(table.path / MODEL_FILE)
    if not files:
        raise DataError(
            f"tokenizer.path: {table.path} is neither a .model file nor a folder with "
            "tokenizer.json; check the path"
        )
    return [[file.name, provenance.file_fingerprint(file)] for file in files]


def prepare(folder: Path, table: Tokenizer, sample: Callable[[], Iterable[str]]) -> None:
    """Write the tokenizer folder, whole or not at all. `sample` gives the text to learn from."""
    if folder.exists():
        return
    unfinished = folder.with_name(f"{folder.name}.tmp")
    if unfinished.exists():
        shutil.rmtree(unfinished)
    unfinished.mkdir(parents=True)
    if table.path is None:
        train(sample, table, unfinished)
    else:
        taken, settings, model = take(table.path)
        if table.extend_by is not None:
            ids = special_ids(taken, special_tokens(taken, settings))
            # A SentencePiece file beside it would lack the pieces.
            taken, model = extension.extend(taken, ids, sample(), table.extend_by), None
        save(unfinished, taken, settings, model)
    unfinished.replace(folder)


def take(path: Path) -> tuple[FastTokenizer, dict[str, Any], bytes | None]:
    """An existing tokenizer, what is said beside tokenizer.json, and its SentencePiece file."""
    if path.is_file():
        model = read_bytes(path)
        return sentencepiece_model.to_tokenizer(model), {}, model
    taken = load_json(path / "tokenizer.json")
    return taken, settings_of(path), same_model(path, taken)


def train(sample: Callable[[], Iterable[str]], table: Tokenizer, folder: Path) -> None:
    """Train as the table says and save in an existing folder. May read the sample twice. The same
    sample gives the same files. Raises DataError if the text is too small."""
    size, coverage = table.vocab_size, table.character_coverage
    if table.model == "byte_bpe":
        save(folder, byte_level.train(sample(), size), {}, None)
    elif table.model == "wordpiece":
        trained = wordpiece.train(sample, size, coverage, table.lowercase)
        save(folder, trained, {"tokenizer_class": "BertTokenizer"}, None)
    else:
        model = sentencepiece.train(sample(), size, coverage, table.model)
        save(folder, sentencepiece_model.to_tokenizer(model), {}, model)


def same_model(folder: Path, tokenizer: FastTokenizer) -> bytes | None:
    """The SentencePiece file beside a tokenizer.json, if the two are one tokenizer: it encodes new
    words several times as fast."""
    path = folder / MODEL_FILE
    if not path.is_file():
        return None
    model = read_bytes(path)
    try:
        converted = sentencepiece_model.to_tokenizer(model)
    except DataError:
        return None
    is_same = json.loads(converted.to_str())["model"] == json.loads(tokenizer.to_str())["model"]
    return model if is_same else None


def read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"tokenizer.path: cannot read {path}: {error.strerror}") from None


def load_json(path: Path) -> FastTokenizer:
    """A tokenizer that truncates nothing, pads nothing and takes special tokens in text as text."""
    if not path.is_file():
        raise DataError(f"{path} is missing; a tokenizer folder needs tokenizer.json")
    try:
        tokenizer = FastTokenizer.from_file(str(path))
    except Exception as error:  # the library raises plain Exception
        raise DataError(f"{path} is not a tokenizer ({error})") from None
    tokenizer.no_truncation()
    tokenizer.no_padding()
    tokenizer.encode_special_tokens = True
    return tokenizer


def reference(folder: Path) -> FastTokenizer:
    """The tokenizer of a folder, for all who only read it: loaded once a process."""
    path = folder / "tokenizer.json"
    version = path.stat().st_mtime_ns if path.is_file() else 0
    return loaded(path, version)


@lru_cache(maxsize=1)
def loaded(path: Path, version: int) -> FastTokenizer:
    return load_json(path)


def settings_of(folder: Path) -> dict[str, Any]:
    """What an existing folder says beside tokenizer.json."""
    settings: dict[str, Any] = {}
    for name in ("special_tokens_map.json", "tokenizer_config.json"):
        if (folder / name).is_file():
            settings |= provenance.read_json(folder / name)
    return settings


def save(
    folder: Path, tokenizer: FastTokenizer, settings: dict[str, Any], model: bytes | None
) -> None:
    """Write all files of a tokenizer folder. Raises DataError if a special token is missing."""
    names = special_tokens(tokenizer, settings)
    if tokenizer.post_processor is None:
        cls, sep = names["cls"], names["sep"]
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{cls} $A {sep}",
            pair=f"{cls} $A {sep} $B:1 {sep}:1",
            special_tokens=[(name, id_of(tokenizer, name)) for name in (cls, sep)],
        )
    tokenizer.save(str(folder / "tokenizer.json"))
    roles = {f"{role}_token": name for role, name in names.items()}
    is_bert = str(settings.get("tokenizer_class", "")).startswith("Bert")
    inputs = ["input_ids", *(["token_type_ids"] if is_bert else []), "attention_mask"]
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "clean_up_tokenization_spaces": False,
        "model_input_names": inputs,
        **{key: settings[key] for key in KEPT_SETTINGS if key in settings},
        "split_special_tokens": True,
        **roles,
    }
    provenance.write_json(folder / "tokenizer_config.json", config)
    provenance.write_json(folder / "special_tokens_map.json", roles)
    if model is not None:
        provenance.write_bytes(folder / MODEL_FILE, model)
    np.save(folder / "token_bytes.npy", token_bytes(tokenizer, names))


def special_tokens(tokenizer: FastTokenizer, settings: dict[str, Any]) -> dict[str, str]:
    """The token of each role: as the settings say, else by its usual name."""
    found = {}
    for role in ROLES:
        stated = [settings.get(f"{key}_token") for key in (role, OTHER_ROLE.get(role, role))]
        names = [token["content"] if isinstance(token, dict) else token for token in stated]
        for name in (*names, *USUAL_NAMES[role]):
            if isinstance(name, str) and tokenizer.token_to_id(name) is not None:
                found[role] = name
                break
    missing = [role for role in ROLES if role not in found and role != "unk"]
    if missing:
        raise DataError(
            f"the tokenizer has no {' and no '.join(missing)} token (looked for "
            f"{', '.join(name for role in missing for name in USUAL_NAMES[role])} and in "
            "tokenizer_config.json); a masked language model needs them: take another tokenizer"
        )
    return found


def special_ids(tokenizer: FastTokenizer, names: dict[str, str]) -> list[int]:
    """Ids that stand for no text."""
    added = tokenizer.get_added_tokens_decoder().items()
    ids = {number for number, token in added if token.special}
    return sorted(ids | {id_of(tokenizer, name) for name in names.values()})


def id_of(tokenizer: FastTokenizer, token: str) -> int:
    """The id of a token known to exist."""
    number = tokenizer.token_to_id(token)
    assert number is not None, token
    return number


def facts(folder: Path) -> TokenizerFacts:
    """What the shards' manifest says of the tokenizer."""
    tokenizer = reference(folder)
    names = special_tokens(tokenizer, settings_of(folder))
    ids = {role: id_of(tokenizer, name) for role, name in names.items()}
    return TokenizerFacts(
        vocab_size=size_of(tokenizer),
        pad_id=ids["pad"],
        cls_id=ids["cls"],
        sep_id=ids["sep"],
        mask_id=ids["mask"],
        unk_id=ids.get("unk", ids["pad"]),  # byte-level ones need none
        special_ids=tuple(special_ids(tokenizer, names)),
        fingerprint=provenance.file_fingerprint(folder / "tokenizer.json"),
        folder=folder,
    )


def size_of(tokenizer: FastTokenizer) -> int:
    """Ids are below this; they may have gaps."""
    return int(max(tokenizer.get_vocab(with_added_tokens=True).values())) + 1


def token_bytes(tokenizer: FastTokenizer, names: dict[str, str]) -> NDArray[np.int32]:
    """(V,) UTF-8 bytes that each token spells; 0 for special tokens.

    WordPiece does not say which of its tokens follow a space, so spaces count for none there.
    """
    description = json.loads(tokenizer.to_str())
    prefix = description["model"].get("continuing_subword_prefix") or ""
    is_byte_level = '"ByteLevel"' in json.dumps(
        [description.get("pre_tokenizer"), description.get("decoder")]
    )
    sizes = np.zeros(size_of(tokenizer), np.int32)
    for token, number in tokenizer.get_vocab(with_added_tokens=True).items():
        if is_byte_level:
            sizes[number] = len(token)  # one character stands for each byte
        elif BYTE_TOKEN.fullmatch(token) and description["model"].get("byte_fallback"):
            sizes[number] = 1
        else:
            text = (
                token.removeprefix(prefix)
                if prefix
                else token.replace(sentencepiece_model.SPACE, " ")
            )
            sizes[number] = len(text.encode("utf-8"))
    sizes[special_ids(tokenizer, names)] = 0
    return sizes
