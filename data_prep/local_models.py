"""Language models in local folders, for the augmentations that write text with one.

The one file of data_prep that imports torch and transformers, and only when a recipe asks for such
an augmentation. Models run on the CPU with one thread, so that the text does not depend on the
machine's cores and workers do not compete.
"""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from runtime.errors import DataError

UNFINISHED = "\ufffd"  # what a byte-level token decodes to if it is part of a character
PARTS = ("*.json", "*.safetensors", "*.bin", "*.model", "*.spm", "*.txt")


def files(folder: Path) -> list[Path]:
    """The files of a model: a change of one changes what it writes."""
    return sorted(path for pattern in PARTS for path in folder.glob(pattern))


@lru_cache(maxsize=4)
def load(folder: Path, kind: str) -> tuple[Any, Any]:
    """A model (`kind` names its AutoModel class) and its tokenizer. Raises DataError."""
    import torch
    import transformers

    torch.set_num_threads(1)
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
        model, loading = getattr(transformers, kind).from_pretrained(
            folder, local_files_only=True, dtype=torch.float32, output_loading_info=True
        )
    except (OSError, ValueError) as error:
        raise DataError(
            f"{folder} holds no model for {kind} with its tokenizer: {str(error).splitlines()[0]}"
        ) from None
    if loading["missing_keys"]:  # transformers would fill them with random numbers
        missing = ", ".join(sorted(loading["missing_keys"])[:3])
        raise DataError(f"{folder} holds no model for {kind}: its weights lack {missing}")
    return model.eval(), tokenizer


@lru_cache(maxsize=4)
def is_masked(folder: Path) -> bool:
    """True for a masked language model, false for one that continues text."""
    import transformers

    try:
        config = transformers.AutoConfig.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError) as error:
        raise DataError(f"{folder} holds no model: {str(error).splitlines()[0]}") from None
    return any(name.endswith("ForMaskedLM") for name in config.architectures or ())


def longest_input(model: Any, limit: int) -> int:
    """Tokens a model has positions for, at most `limit`."""
    positions = getattr(model.config, "max_position_embeddings", None)
    return min(int(positions), limit) if positions else limit


def translate(folder: Path, texts: Sequence[str], num_beams: int, max_tokens: int) -> list[str]:
    """Each text through a sequence-to-sequence model, by beam search: always the same result.

    A text too long for the model, or longer than `max_tokens`, comes back as it is.
    """
    import torch

    model, tokenizer = load(folder, "AutoModelForSeq2SeqLM")
    limit = longest_input(model, max_tokens)
    fitting = [i for i, text in enumerate(texts) if len(tokenizer(text).input_ids) <= limit]
    found = list(texts)
    if fitting:
        batch = tokenizer([texts[i] for i in fitting], return_tensors="pt", padding=True)
        with torch.inference_mode():
            outputs = model.generate(
                input_ids=batch.input_ids,
                attention_mask=batch.attention_mask,
                num_beams=num_beams,
                do_sample=False,
                max_new_tokens=limit,
            )
        written = tokenizer.batch_decode(outputs, skip_special_tokens=True)
        for i, text in zip(fitting, written, strict=True):
            found[i] = text.strip()
    return found


def continued(
    folder: Path, prompt: str, max_tokens: int, temperature: float, top_p: float, seed: int
) -> str:
    """What a causal model writes behind a prompt."""
    import torch

    model, tokenizer = load(folder, "AutoModelForCausalLM")
    ids = tokenizer(prompt, return_tensors="pt").input_ids
    room = longest_input(model, ids.shape[1] + max_tokens) - ids.shape[1]
    if room <= 0 or not ids.shape[1]:
        return ""
    with torch.inference_mode(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        outputs = model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            do_sample=True,
            temperature=temperature,
            top_p=top_p,
            max_new_tokens=room,
            pad_token_id=tokenizer.pad_token_id or tokenizer.eos_token_id or 0,
        )
    written: str = tokenizer.decode(outputs[0, ids.shape[1] :], skip_special_tokens=True)
    return written.rstrip(UNFINISHED)


def refilled(folder: Path, text: str, rate: float, temperature: float, seed: int) -> str:
    """A text with a share of its tokens masked and drawn anew by a masked model.

    Only as much of the text as fits the model; the rest stays as it is.
    """
    import torch

    model, tokenizer = load(folder, "AutoModelForMaskedLM")
    encoded = tokenizer(
        text,
        return_tensors="pt",
        return_offsets_mapping=True,
        return_special_tokens_mask=True,
        truncation=True,
        max_length=longest_input(model, 512),
    )
    spans = encoded.offset_mapping[0].tolist()
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.rand(len(spans), generator=generator) < rate
    places = torch.nonzero(drawn & (encoded.special_tokens_mask[0] == 0)).flatten()
    if not len(places):
        return text
    ids = encoded.input_ids.clone()
    ids[0, places] = tokenizer.mask_token_id
    with torch.inference_mode():
        logits = model(input_ids=ids, attention_mask=encoded.attention_mask).logits[0, places]
        logits[:, tokenizer.all_special_ids] = -torch.inf
    chosen = torch.multinomial((logits / temperature).softmax(-1), 1, generator=generator)
    for place, token in reversed(
        list(zip(places.tolist(), chosen.flatten().tolist(), strict=True))
    ):
        start, end = spans[place]
        written = tokenizer.decode([token]).strip().removeprefix("##")
        if UNFINISHED not in written:
            text = text[:start] + written + text[end:]
    return text
