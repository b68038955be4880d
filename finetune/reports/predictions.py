"""predictions.SPLIT.jsonl: every row of a scored file with its gold label and what was predicted.

One JSON object a line, in row order:
row         index of the row in the file, from 0, as the reader counts them
texts       what the model read: one text, or a pair
gold        entities of a text; the label, labels or number of a row
predicted   as `finetune predict` answers, with confidences, without repeating the text
"""

import json
from pathlib import Path
from typing import Any

from finetune.evaluation import Scored
from finetune.prepare import Prepared
from runtime import provenance


def write(folder: Path, prepared: Prepared, split: str, scored: Scored) -> Path:
    """Write the file of a split and return its path."""
    lines = [json.dumps(each, ensure_ascii=False) + "\n" for each in rows(prepared, split, scored)]
    path = folder / f"predictions.{split}.jsonl"
    provenance.write_text(path, "".join(lines))
    return path


def rows(prepared: Prepared, split: str, scored: Scored) -> list[dict[str, Any]]:
    """The lines as JSON objects."""
    plugin, labels = prepared.plugin, prepared.labels
    found = []
    pairs = zip(prepared.data[split].rows, scored.predictions, strict=True)
    for number, (row, prediction) in enumerate(pairs):
        answer = plugin.answer(row, prediction, labels)
        answer.pop("text", None)
        found.append(
            {
                "row": number,
                "texts": list(plugin.texts(row)),
                "gold": gold(plugin, row),
                "predicted": answer,
            }
        )
    return found


def gold(plugin: Any, row: Any) -> Any:
    """What is right about a row, as JSON; None where a plug-in does not say."""
    find = getattr(plugin, "gold", None)
    return None if find is None else find(row)
