"""Which encoder classes of transformers can be trained, and the loss of those that can."""

import warnings

import numpy as np
import pytest
import torch
from transformers import CONFIG_MAPPING, AutoModelForMaskedLM, PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES

from pretrain.model import attention
from pretrain.model.attention import segments_of
from pretrain.model.build import first_position
from pretrain.model.cross_entropy import IGNORED
from pretrain.model.objective import MaskedLM
from runtime.errors import RecipeError
from tests.pretrain.model.test_proof import prove

SMALL = {
    "vocab_size": 128,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "pad_token_id": 0,
    "max_position_embeddings": 600,
}
ACCEPTED = {
    "albert": "predictions",
    "bert": "cls",
    "camembert": "lm_head",
    "data2vec-text": "lm_head",
    "distilbert": "vocab_transform activation vocab_layer_norm vocab_projector",
    "electra": "generator_predictions generator_lm_head",
    "ernie": "cls",
    "esmc": "lm_head",
    "eurobert": "lm_head",
    "gte": "lm_head",
    "jina_embeddings_v3": "lm_head",
    "modernbert": "head decoder",
    "nomic_bert": "cls",
    "roberta": "lm_head",
    "roberta-prelayernorm": "lm_head",
    "roc_bert": "cls",
    "ultrabert": "head decoder",
    "xlm-roberta": "lm_head",
    "xlm-roberta-xl": "lm_head",
}
OWN_ATTENTION = "computes attention in code of its own"
REFUSED = {
    "bart": "an encoder with a decoder",
    "big_bird": OWN_ATTENTION,
    "convbert": OWN_ATTENTION,
    "deberta": OWN_ATTENTION,
    "deberta-v2": OWN_ATTENTION,
    "esm": "changes what its output layer returns",
    "flaubert": OWN_ATTENTION,
    "fnet": OWN_ATTENTION,
    "ibert": OWN_ATTENTION,
    "layoutlm": OWN_ATTENTION,
    "longformer": OWN_ATTENTION,
    "luke": OWN_ATTENTION,
    "mbart": "an encoder with a decoder",
    "megatron-bert": OWN_ATTENTION,
    "mobilebert": "changes what its output layer returns",
    "modernvbert": "reads images beside text",
    "mpnet": OWN_ATTENTION,
    "mra": OWN_ATTENTION,
    "mvp": "an encoder with a decoder",
    "neomme": "by more than a chain of modules",
    "nystromformer": OWN_ATTENTION,
    "rembert": OWN_ATTENTION,
    "roformer": OWN_ATTENTION,
    "tapas": OWN_ATTENTION,
    "xlm": OWN_ATTENTION,
    "xmod": "does not run on token ids and positions alone",
    "yoso": OWN_ATTENTION,
}
OTHERWISE_SHAPED = {  # not built here: their configs share no small shape with the rest
    "funnel", "perceiver", "reformer", "squeezebert", "ultravbert",
}  # fmt: skip
EXTRA = {"mobilebert": {"embedding_size": 32, "intra_bottleneck_size": 32, "true_hidden_size": 32}}


def make(model_type: str, device: str = "cpu") -> PreTrainedModel:
    torch.manual_seed(0)
    config = CONFIG_MAPPING[model_type](**SMALL, **EXTRA.get(model_type, {}))
    with warnings.catch_warnings(), torch.device(device):
        warnings.simplefilter("ignore")
        model = AutoModelForMaskedLM.from_config(config, attn_implementation=attention.NAME)
    assert isinstance(model, PreTrainedModel)
    return model


def test_every_masked_lm_class_has_its_place() -> None:
    """One that a newer transformers brings is neither accepted nor refused unseen."""
    listed = {*ACCEPTED, *REFUSED, *OTHERWISE_SHAPED}
    assert set(MODEL_FOR_MASKED_LM_MAPPING_NAMES) <= listed


@pytest.mark.parametrize("model_type", ACCEPTED)
def test_accepted_and_trained_like_the_class_itself(model_type: str) -> None:
    objective = MaskedLM(make(model_type))
    assert " ".join(objective.head.names) == ACCEPTED[model_type]
    assert prove(objective) < 1e-5
    model = objective.eval().model
    ids = torch.randint(5, 128, (1, 30), generator=torch.Generator().manual_seed(1))
    positions = torch.tensor([2, 3, 17, 29, 0])
    targets = torch.tensor([9, 50, 7, 127, IGNORED])
    labels = torch.full_like(ids, IGNORED)
    labels[0, positions[:4]] = targets[:4]
    model.config._attn_implementation = "eager"
    expected = 4 * model(input_ids=ids, labels=labels).loss
    model.config._attn_implementation = attention.NAME
    position_ids = torch.arange(30)[None] + first_position(model.config)
    given = (ids, position_ids, positions, targets, segments_of(np.array([30])))
    loss_sum, losses, hits = objective(*given)
    torch.testing.assert_close(loss_sum, expected, rtol=1e-6, atol=0)
    assert losses.shape == hits.shape == (5,)
    assert losses[4] == 0
    objective.train()
    objective(*given)[0].backward()
    unmoved = [name for name, p in objective.named_parameters() if p.grad is None]
    assert unmoved == []


@pytest.mark.parametrize("model_type", REFUSED)
def test_refused_with_the_reason(model_type: str) -> None:
    with pytest.raises(RecipeError, match=REFUSED[model_type]):
        MaskedLM(make(model_type, "meta"))


def test_a_decoder_is_refused() -> None:
    model = make("bert")
    model.config.is_decoder = True
    with pytest.raises(RecipeError, match="attends to earlier tokens only"):
        MaskedLM(model)


def test_the_model_itself_still_returns_logits() -> None:
    objective = MaskedLM(make("bert"))
    ids = torch.randint(5, 128, (1, 6))
    objective.model.config._attn_implementation = "eager"
    assert objective.model(input_ids=ids).logits.shape == (1, 6, 128)
