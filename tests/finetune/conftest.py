"""Tiny tokenizers, encoders and data sets, built in the test: nothing is downloaded."""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from finetune.tokenizer import Tokenizer
from runtime import provenance
from tests import debian

SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = [
    "the", "visited", "met", "in", "and", "today", "with", "a", "good", "bad", "film", "was",
    "ada", "bob", "carla", "dan", "oslo", "paris", "rome", "lima", "ada", "lovely", "awful",
    "##s", "##ing", "play", "new", "york", ",", ".", "-", "北", "京",
]  # fmt: skip


def template() -> Any:
    return processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )


def wordpiece() -> Backend:
    """WordPiece over WORDS, letters as the rest."""
    letters = [chr(c) for c in range(ord("a"), ord("z") + 1)]
    pieces = dict.fromkeys([*SPECIALS, *WORDS, *letters, *("##" + c for c in letters)])
    backend = Backend(models.WordPiece({t: i for i, t in enumerate(pieces)}, unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer(lowercase=True)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece()
    backend.post_processor = template()
    backend.add_special_tokens(SPECIALS)
    return backend


def trained(model: str, texts: list[str]) -> Backend:
    """A byte-level BPE or a unigram tokenizer with the template of WordPiece."""
    if model == "bpe":
        backend = Backend(models.BPE())
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        trainer: Any = trainers.BpeTrainer(
            vocab_size=400,
            special_tokens=SPECIALS,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        )
    else:
        backend = Backend(models.Unigram())
        backend.normalizer = normalizers.NFKC()
        backend.pre_tokenizer = pre_tokenizers.Metaspace()
        trainer = trainers.UnigramTrainer(
            vocab_size=120, special_tokens=SPECIALS, unk_token="[UNK]"
        )
    backend.train_from_iterator(texts, trainer)
    backend.post_processor = template()
    return backend


def wrap(backend: Backend) -> Tokenizer:
    return Tokenizer(backend, pad_id=0, cls_id=2, sep_id=3)


@pytest.fixture
def tokenizer() -> Tokenizer:
    return wrap(wordpiece())


def write_encoder(folder: Path, architecture: str = "bert", positions: int = 64) -> Path:
    """A random tiny encoder as the pretrain stage exports it."""
    from transformers import AutoConfig, AutoModelForMaskedLM, set_seed

    fast = PreTrainedTokenizerFast(
        tokenizer_object=wordpiece(),
        pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]",
        mask_token="[MASK]",
    )  # fmt: skip
    fast.save_pretrained(folder)
    extra: dict[str, Any] = {
        "modernbert": {
            "local_attention": 8, "bos_token_id": 2, "eos_token_id": 3,
            "cls_token_id": 2, "sep_token_id": 3,
        },
        "roberta": {"max_position_embeddings": positions + 1},
    }.get(architecture, {})  # fmt: skip
    shape = {
        "vocab_size": 128,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 64,
        "max_position_embeddings": positions,
        "pad_token_id": 0,
    }
    set_seed(7)
    config = AutoConfig.for_model(architecture, **(shape | extra))
    AutoModelForMaskedLM.from_config(config).save_pretrained(folder)
    fingerprint = provenance.file_fingerprint(folder / "tokenizer.json")
    provenance.write_json(folder / "textmill.json", {"tokenizer": fingerprint})
    return folder


@pytest.fixture(scope="session")
def encoder_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_encoder(tmp_path_factory.mktemp("encoder"))


def ner_lines(count: int, seed: int) -> str:
    """Sentences whose people and places are easy to learn."""
    rng = random.Random(seed)
    people, places = ["ada", "bob", "carla", "dan"], ["oslo", "paris", "rome", "new york"]
    blocks = []
    for _ in range(count):
        place = rng.choice(places).split()
        rows = [(rng.choice(people), "B-PER"), (rng.choice(["visited", "met"]), "O")]
        rows += [(word, "BI"[i > 0] + "-LOC") for i, word in enumerate(place)]
        rows += [("today", "O")] * rng.randrange(3) + [(".", "O")]
        blocks.append("\n".join(f"{word}\t{tag}" for word, tag in rows))
    return "\n\n".join(blocks) + "\n"


def review_lines(count: int, seed: int) -> str:
    rng = random.Random(seed)
    rows = []
    for _ in range(count):
        label = rng.choice(["neg", "pos", "pos"])
        word = rng.choice({"pos": ["good", "lovely"], "neg": ["bad", "awful"]}[label])
        text = f"the film was {word}" + " today" * rng.randrange(4)
        rows.append(json.dumps({"text": text, "label": label}))
    return "\n".join(rows) + "\n"


RECIPE = """
name = "tiny"
output = "run"
[engine]
precision = "fp32"
threads_per_rank = 1
[track]
interval_steps = 4
[tasks.people]
kind = "ner"
train = "train.conll"
valid = "valid.conll"
test = "test.conll"
encoder = "encoder"
epochs = 3
batch_size = 8
micro_batch_size = 4
learning_rate = 5e-3
control_random_init = true
[tasks.reviews]
kind = "classification"
train = "train.jsonl"
valid = "valid.jsonl"
test = "test.jsonl"
encoder = "encoder"
epochs = 8
batch_size = 8
micro_batch_size = 4
learning_rate = 1e-2
[export]
onnx = true
"""


def write_workplace(folder: Path, encoder: Path) -> Path:
    """A folder with a recipe of two tasks, their files and an encoder."""
    for i, split in enumerate(("train", "valid", "test")):
        size = 64 if split == "train" else 21
        (folder / f"{split}.conll").write_text(ner_lines(size, i))
        (folder / f"{split}.jsonl").write_text(review_lines(size, i))
    if not (folder / "encoder").exists():
        (folder / "encoder").symlink_to(encoder)
    (folder / "recipe.toml").write_text(RECIPE)
    return folder


@pytest.fixture
def workplace(tmp_path: Path, encoder_folder: Path) -> Path:
    return write_workplace(tmp_path, encoder_folder)


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, str], Path]:
    """Write a file and return its path."""

    def written(name: str, text: str) -> Path:
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path

    return written


@pytest.fixture(scope="session")
def wordnet() -> None:
    """WordNet on this machine."""
    if not Path("/usr/share/wordnet/data.adj").is_file():
        debian.install_or_skip(["wordnet-base"])
