"""Language models of a few thousand random weights, with real tokenizers, saved as folders."""

from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import (
    BertConfig,
    BertForMaskedLM,
    GPT2Config,
    GPT2LMHeadModel,
    MarianConfig,
    MarianMTModel,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    T5Config,
    T5ForConditionalGeneration,
    set_seed,
)

SPECIALS = ["<pad>", "</s>", "<unk>", "<mask>"]


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """One token a byte, so that every text has tokens; `</s>` ends a text."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: i for i, token in enumerate([*SPECIALS, *alphabet])}
    backend = Tokenizer(models.BPE(vocabulary, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", 1)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="<pad>", eos_token="</s>", unk_token="<unk>",
        mask_token="<mask>",
    )  # fmt: skip


def save(folder: Path, model: PreTrainedModel) -> Path:
    model.save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return folder


def seq2seq(folder: Path, family: str, seed: int = 1) -> Path:
    """A Marian or T5 model; another seed is another model."""
    set_seed(seed)
    vocab_size = len(byte_tokenizer())
    if family == "t5":
        return save(
            folder,
            T5ForConditionalGeneration(
                T5Config(
                    vocab_size=vocab_size, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2,
                    pad_token_id=0, eos_token_id=1, decoder_start_token_id=0,
                )
            ),
        )  # fmt: skip
    return save(
        folder,
        MarianMTModel(
            MarianConfig(
                vocab_size=vocab_size, d_model=16, encoder_layers=1, decoder_layers=1,
                encoder_attention_heads=2, decoder_attention_heads=2, encoder_ffn_dim=16,
                decoder_ffn_dim=16, max_position_embeddings=64, pad_token_id=0, eos_token_id=1,
                decoder_start_token_id=0, forced_eos_token_id=1, init_std=0.5,
            )
        ),
    )  # fmt: skip


def causal(folder: Path) -> Path:
    set_seed(2)
    config = GPT2Config(
        vocab_size=len(byte_tokenizer()), n_positions=64, n_embd=16, n_layer=1, n_head=2,
        bos_token_id=1, eos_token_id=1,
    )  # fmt: skip
    return save(folder, GPT2LMHeadModel(config))


def masked(folder: Path) -> Path:
    set_seed(3)
    config = BertConfig(
        vocab_size=len(byte_tokenizer()), hidden_size=16, num_hidden_layers=1,
        num_attention_heads=2, intermediate_size=16, max_position_embeddings=64, pad_token_id=0,
    )  # fmt: skip
    return save(folder, BertForMaskedLM(config))
