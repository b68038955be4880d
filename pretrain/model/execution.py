"""How the encoder's layers are run: recomputed in the backward pass, or compiled.

Neither changes what is computed: a recomputed layer draws the dropout of its first run again.
"""

from transformers import PreTrainedModel

from runtime.errors import RecipeError


def checkpoint_activations(model: PreTrainedModel) -> None:
    """Keep the inputs of every encoder layer only, and compute the layer again for its gradients.

    Raises RecipeError if the class of the model cannot.
    """
    if not model.supports_gradient_checkpointing:
        raise RecipeError(
            f"{type(model).__name__} cannot compute layers again in the backward pass; "
            "set engine.activation_checkpointing = false"
        )
    # The older name of transformers 5.3 warns in newer ones.
    enable = getattr(model, "activation_checkpointing_enable", model.gradient_checkpointing_enable)
    enable({"use_reentrant": False})


def compile_encoder(model: PreTrainedModel, backend: str = "inductor") -> None:
    """Compile the encoder at its first call, in place: parameters keep their names.

    The packed attention stays outside of the compiled parts (its shapes follow the segments of a
    micro batch), so compiled code is everything between two attentions.
    """
    model.base_model.compile(dynamic=False, backend=backend)
