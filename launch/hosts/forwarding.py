"""Which variables of this machine reach the ranks on others, beside those of the environment file.

A recipe must mean the same everywhere, so the variables it names (`${NAME}`) go along, and those
that set up the libraries of a rank. What describes this machine (PATH, HOME, devices) stays here.
"""

from collections.abc import Iterable, Mapping

from launch.hosts.environment_file import OF_A_RANK
from runtime.recipe import VARIABLE

PREFIXES = (
    *("PYTHON", "TEXTMILL_", "DS_", "OMP_", "MKL_", "TORCH_", "TOKENIZERS_", "HF_"),
    *("NCCL_", "GLOO_", "UCX_", "FI_"),
)


def forwarded(environment: Mapping[str, str], texts: Iterable[str] = ()) -> dict[str, str]:
    """The part of an environment that goes to every rank; `texts` are a recipe and overrides."""
    named = {match[1] for text in texts for match in VARIABLE.finditer(text)}
    return {
        name: value
        for name, value in environment.items()
        if (name in named or name.startswith(PREFIXES)) and name not in OF_A_RANK
    }
