"""TensorBoard's messages: what its plug-ins read for charts, texts, pictures, curves, parameters.

Built from TensorBoard's own protocol classes, without TensorFlow and without torch. Each function
returns one Summary; tracking.py writes it.
"""

import re
import struct
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.custom_scalar import metadata as custom_scalar
from tensorboard.plugins.hparams import api_pb2, plugin_data_pb2
from tensorboard.plugins.hparams import metadata as hparams
from tensorboard.plugins.image import metadata as image_plugin
from tensorboard.plugins.pr_curve import metadata as pr_curve_plugin
from tensorboard.plugins.text import metadata as text_plugin
from tensorboard.util import tensor_util

PNG = b"\x89PNG\r\n\x1a\n"
NUM_THRESHOLDS = 101  # of a precision-recall curve: 0, 0.01 ... 1
# Category: title of a chart: tags in it, as regular expressions. A run shows those it has tags for.
LAYOUT = {
    "Learning": {
        "training and validation loss": ["loss/train", "loss/valid"],
        "validation loss by domain": ["loss_by_domain/.*"],
        "bits per byte": ["eval/bits_per_byte.*"],
        "bits per byte by domain": ["bits_per_byte_by_domain/.*"],
        "accuracy by domain": ["accuracy_by_domain/.*"],
        "evaluation": ["eval/(?!bits_per_byte).*"],
        "probes": ["probe/.*"],
    },
    "Mixture": {
        "share of each source": ["mixture/.*"],
        "learning speed of each domain": ["learning_speed/.*"],
    },
    "Optimization": {
        "learning rate": ["optim/learning_rate"],
        "gradient norm": ["optim/gradient_norm"],
        "refused updates in a row": ["health/.*"],
    },
    "Speed and memory": {
        "tokens per second": ["perf/tokens_per_second$"],
        "model FLOPs utilization": ["perf/mfu"],
        "shares of time": ["perf/share_.*"],
        "packing efficiency": ["data/packing_efficiency"],
        "seconds a checkpoint": ["perf/checkpoint_seconds"],
        "memory, GiB": ["mem/.*"],
    },
}


def scalars(metrics: Mapping[str, float]) -> Summary:
    """One point of each tag."""
    return Summary(
        value=[Summary.Value(tag=tag, simple_value=value) for tag, value in metrics.items()]
    )


def text(tag: str, markdown: str) -> Summary:
    """A text of the TEXT page."""
    metadata = text_plugin.create_summary_metadata(tag, "")
    return tensor(tag, strings([markdown.encode("utf-8")]), metadata)


def image(tag: str, png: bytes) -> Summary:
    """A picture of the IMAGES page. Raises ValueError if the bytes are no PNG."""
    if not png.startswith(PNG):
        raise ValueError(f"the image {tag} is no PNG file: it begins with {png[:8]!r}")
    width, height = struct.unpack(">II", png[16:24])
    metadata = image_plugin.create_summary_metadata(tag, "")
    return tensor(tag, strings([str(width).encode(), str(height).encode(), png]), metadata)


def pr_curve(tag: str, is_positive: Sequence[bool], scores: Sequence[float]) -> Summary:
    """A precision-recall curve over thresholds 0 to 1; scores are probabilities."""
    claims, values = np.asarray(is_positive, bool), np.asarray(scores, np.float64)
    if len(claims) != len(values):
        raise ValueError(f"{tag}: {len(claims)} labels, but {len(values)} scores")
    thresholds = np.linspace(0, 1, NUM_THRESHOLDS)
    found_true = at_least(values[claims], thresholds)
    found_false = at_least(values[~claims], thresholds)
    missed = claims.sum() - found_true
    left = (~claims).sum() - found_false
    found = found_true + found_false
    precision = found_true / np.maximum(found, 1)
    recall = found_true / max(int(claims.sum()), 1)
    rows = np.stack([found_true, found_false, left, missed, precision, recall])
    metadata = pr_curve_plugin.create_summary_metadata(tag, "", NUM_THRESHOLDS)
    return tensor(tag, tensor_util.make_tensor_proto(rows.astype(np.float32)), metadata)


def at_least(values: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """How many values reach each threshold."""
    return len(values) - np.searchsorted(np.sort(values), thresholds, side="left")


def layout(tags: Iterable[str]) -> Summary:
    """The charts of the CUSTOM SCALARS page for which there are tags."""
    known = list(tags)
    categories = []
    for title, charts in LAYOUT.items():
        shown = {
            chart: patterns
            for chart, patterns in charts.items()
            if any(re.match(pattern, tag) for pattern in patterns for tag in known)
        }
        if shown:
            categories.append(category(title, shown))
    content = layout_pb2.Layout(category=categories).SerializeToString()
    proto = TensorProto(dtype="DT_STRING", string_val=[content])
    proto.tensor_shape.SetInParent()
    return tensor(custom_scalar.CONFIG_SUMMARY_TAG, proto, custom_scalar.create_summary_metadata())


def category(title: str, charts: Mapping[str, Sequence[str]]) -> layout_pb2.Category:
    """One fold of the page."""
    return layout_pb2.Category(
        title=title,
        chart=[
            layout_pb2.Chart(title=name, multiline=layout_pb2.MultilineChartContent(tag=patterns))
            for name, patterns in charts.items()
        ],
    )


def session_start(name: str, tables: Mapping[str, Any]) -> Summary:
    """A row of the HPARAMS page; its metrics are the last scalars of the same folder.

    The session lies in the run itself (no run of its own for parameters), and there is no
    experiment message: TensorBoard would take one run's for all of them.
    """
    info = plugin_data_pb2.SessionStartInfo(group_name=name, start_time_secs=time.time())
    for key, value in flat(tables).items():
        if isinstance(value, bool):
            info.hparams[key].bool_value = value
        elif isinstance(value, int | float):
            info.hparams[key].number_value = value
        else:
            info.hparams[key].string_value = value
    content = plugin_data_pb2.HParamsPluginData(session_start_info=info)
    return session(hparams.SESSION_START_INFO_TAG, content)


def session_end() -> Summary:
    """The run came to its end."""
    info = plugin_data_pb2.SessionEndInfo(status=api_pb2.STATUS_SUCCESS, end_time_secs=time.time())
    content = plugin_data_pb2.HParamsPluginData(session_end_info=info)
    return session(hparams.SESSION_END_INFO_TAG, content)


def session(tag: str, content: plugin_data_pb2.HParamsPluginData) -> Summary:
    return tensor(tag, hparams.NULL_TENSOR, hparams.create_summary_metadata(content))


def flat(tables: Mapping[str, Any], prefix: str = "") -> dict[str, bool | int | float | str]:
    """Numbers and words of nested tables by dotted key; lists as text, what is not set left out."""
    found: dict[str, bool | int | float | str] = {}
    for key, value in tables.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{prefix}{key}.")
        elif isinstance(value, bool | int | float | str):
            found[f"{prefix}{key}"] = value
        elif value:
            found[f"{prefix}{key}"] = str(value)
    return found


def strings(values: Sequence[bytes]) -> TensorProto:
    """A vector of byte strings."""
    shape = TensorShapeProto(dim=[TensorShapeProto.Dim(size=len(values))])
    return TensorProto(dtype="DT_STRING", string_val=values, tensor_shape=shape)


def tensor(tag: str, proto: TensorProto, metadata: SummaryMetadata) -> Summary:
    return Summary(value=[Summary.Value(tag=tag, tensor=proto, metadata=metadata)])
