"""export/README.md: the card of a fine-tuned model, written from its report.json alone.

It begins with the metadata that model hubs read (YAML between two lines of `---`), then says the
same and more in plain words. What is not known, the licence and the language of the texts, is left
out: the owner of the texts adds it. `base_model` stands there only if it is a name on a hub.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from finetune.reports import headline, report_tables, tables
from finetune.reports.tables import Table
from runtime import provenance

CARD = "README.md"
PIPELINES = {"token": "token-classification", "sequence": "text-classification"}  # by head
# The names under which hubs know our metrics; others keep their own.
HUB_METRICS = {
    "macro_f1": "f1", "micro_f1": "f1", "weighted_f1": "f1", "token_f1": "f1",
    "token_accuracy": "accuracy", "mcc": "matthews_correlation", "auc": "roc_auc",
    "spearman": "spearmanr", "pearson": "pearsonr",
}  # fmt: skip
SETTINGS = (
    "epochs", "batch_size", "learning_rate", "head_learning_rate", "layer_decay", "weight_decay",
    "warmup_share", "decay", "patience",
)  # fmt: skip
MOST_LABELS = 60  # that are listed


def write(folder: Path) -> Path:
    """Write the card of a task's folder and return its path."""
    path = folder / "export" / CARD
    provenance.write_text(path, of(provenance.read_json(folder / "report.json")))
    return path


def of(report: Mapping[str, Any]) -> str:
    """The card's text."""
    parts = [
        f"---\n{metadata(report)}---",
        f"# {report['task']}",
        what_it_is(report),
        "## Scores",
        scores(report),
        "## How to use it",
        how_to_use(report),
        "## Labels",
        labels(report),
        "## Rows",
        rows(report),
        "## Limits",
        limits(report),
        "## How it was trained",
        training(report),
    ]
    return "\n\n".join(parts) + "\n"


def metadata(report: Mapping[str, Any]) -> str:
    """The YAML that hubs read, `model-index` with every score among it."""
    names = dict.fromkeys(map(hub_metric, report[headline.SPLITS[0]]["metrics"]))
    card = ModelCardData(
        library_name="transformers",
        pipeline_tag=PIPELINES[report["head"]],
        base_model=report["encoder"]["hub_id"],
        metrics=list(names),
        tags=["textmill", report["kind"]],
        model_name=report["task"],
        eval_results=[
            EvalResult(
                task_type=PIPELINES[report["head"]],
                dataset_type=dataset_of(report, split) or report["task"],
                dataset_name=report["task"],
                dataset_split=split,
                metric_type=hub_metric(name),
                metric_name=tables.words(name),
                metric_value=value,
            )
            for split in reversed(report_tables.splits_of(report))
            for name, value in report[split]["metrics"].items()
        ],
    )
    return str(card.to_yaml()).rstrip() + "\n"


def hub_metric(name: str) -> str:
    return HUB_METRICS.get(name, name)


def dataset_of(report: Mapping[str, Any], split: str) -> str | None:
    """The hub's name of the data set that a split was read from; None if it is a file."""
    source = report["table"].get(split)
    return source["dataset"] if isinstance(source, Mapping) else None


def what_it_is(report: Mapping[str, Any]) -> str:
    does = {"token": "finds named entities in texts", "sequence": "classifies texts"}
    told = "gives texts a number" if len(report["labels"]) == 1 else does[report["head"]]
    together = report.get("together_with") or []
    others = [f"`{name}`" for name in together if name != report["task"]]
    return (
        f"This model {told}. It was fine-tuned with Textmill for the task `{report['task']}` "
        f"(kind `{report['kind']}`), from the encoder `{report['encoder']['name']}`. It reads at "
        f"most {report['max_length']} tokens at once."
        + (f" The encoder was trained for {', '.join(others)} at the same time." if others else "")
    )


def scores(report: Mapping[str, Any]) -> str:
    """The headline, what it means, what is known of the rows elsewhere, and the other metrics."""
    count = len(report["seeds"]["seeds"])
    told = [
        "Intervals come from resampled rows: they say how sure a score is on rows like these.",
        "Baselines need no model: they know the training rows only.",
    ]
    if count > 1:
        told.append(
            f"The model is the best of {count} training runs on the validation rows; ± is the "
            "deviation over the runs."
        )
    parts = [markdown(report_tables.scores(report)), " ".join(told)]
    parts.append(
        "\n".join(
            f"- {note}" for note in (*report_tables.known(report), *report_tables.notes(report))
        )
    )
    parts += ["Every metric:", markdown(report_tables.metrics(report))]
    split = report_tables.splits_of(report)[-1]
    for table in report_tables.by_label(report[split]["report"]):
        if len(table.rows) <= MOST_LABELS:
            parts += [f"{table.title}, on {split}:", markdown(table)]
    return "\n\n".join(parts)


def how_to_use(report: Mapping[str, Any]) -> str:
    """Both ways; Textmill's decodes as the model was scored."""
    example = dict.fromkeys(fields(report), "...")
    given = json.dumps(example) if len(example) > 1 else '"..."'
    parts = [
        "With Textmill, as it was scored:",
        code(
            "from finetune import predict",
            "",
            'answer = predict.load("FOLDER")  # the folder of this file',
            f"print(answer([{given}]))",
        ),
        "`python -m finetune predict FOLDER < texts.jsonl` does the same with a file.",
    ]
    pipeline = PIPELINES[report["head"]]
    if len(example) == 1:
        extra = ', aggregation_strategy="first"' if report["head"] == "token" else ""
        parts += [
            "With transformers alone, without what Textmill does after the model "
            f"({after_the_model(report)}):",
            code(
                "from transformers import pipeline",
                "",
                f'answer = pipeline("{pipeline}", "FOLDER"{extra})',
                'print(answer("..."))',
            ),
        ]
    return "\n\n".join(parts)


def fields(report: Mapping[str, Any]) -> list[str]:
    """What an input consists of: a text, or the fields of a pair."""
    table = report["table"]
    if table.get("text_pair_field") is None:
        return ["text"]
    names = [table.get("text_field", "text"), table["text_pair_field"]]
    return ["text", "text_pair"] if any(isinstance(name, int) for name in names) else names


def after_the_model(report: Mapping[str, Any]) -> str:
    if report["head"] == "token":
        return "windows over long texts, only valid tag sequences, calibrated confidences"
    return "long texts, calibrated confidences"


def labels(report: Mapping[str, Any]) -> str:
    found = report["labels"]
    shown = ", ".join(f"`{label}`" for label in found[:MOST_LABELS])
    rest = len(found) - MOST_LABELS
    return shown + (f" and {rest} more (`id2label` in config.json)." if rest > 0 else ".")


def rows(report: Mapping[str, Any]) -> str:
    """Counts of every split, and the files they were read from."""
    files = [
        f"- {split}: `{Path(found['path']).name}`, {found['fingerprint']}"
        for split, found in report["files"].items()
    ]
    return "\n\n".join([markdown(report_tables.data(report)), "\n".join(files)]).rstrip()


def limits(report: Mapping[str, Any]) -> str:
    """What the scores do not promise."""
    is_number = len(report["labels"]) == 1
    found = [
        "The scores hold for texts like the evaluation rows. Texts of another subject, time, "
        "language or writing style can be far harder; measure on your own rows.",
        f"Only {'that number' if is_number else 'these labels'} can come out of it: it cannot say "
        "that a question is none of its business.",
        "It learnt what the rows say, mistakes and one-sidedness of those who labelled them "
        "included.",
    ]
    told = {each["contamination"] for each in report["headline"].values()}
    if any("unknown" in words for words in told):
        found.append(
            "Whether the encoder has seen the evaluation rows in its pretraining text is not known "
            "for every split; if it has, the scores are too high."
        )
    return "\n".join(f"- {each}" for each in found)


def training(report: Mapping[str, Any]) -> str:
    """Settings, runs, and the versions that can change a result."""
    table, trained = report["table"], report["training"]
    settings = {name: table[name] for name in SETTINGS if name in table}
    settings |= {"augment": ", ".join(each["kind"] for each in table.get("augment", ()))}
    settings_table = Table(
        "", ["setting", "value"],
        [[tables.words(name), str(value)] for name, value in settings.items() if value != ""],
    )  # fmt: skip
    facts = (
        f"{trained['num_parameters']:,} parameters; {trained['steps']:,} of "
        f"{trained['steps_planned']:,} steps, the best at step {trained['best_step']:,}; "
        f"{trained['tokens']:,} tokens."
    )
    versions = ", ".join(
        f"{name} {version}" for name, version in report["versions"].items()
        if version != "not installed"
    )  # fmt: skip
    runs = markdown(report_tables.runs(report))
    return "\n\n".join([facts, markdown(settings_table), runs, f"Versions: {versions}."])


def code(*lines: str) -> str:
    return "\n".join(["```python", *lines, "```"])


def markdown(table: Table) -> str:
    """A table as Markdown; what would end a cell or begin markup is escaped."""
    return "\n".join([line(table.head), line(["---"] * len(table.head)), *map(line, table.rows)])


def line(cells: Sequence[tables.Cell]) -> str:
    shown = (tables.shown(each) for each in cells)
    return "| " + " | ".join(map(escaped, shown)) + " |"


def escaped(text: str) -> str:
    for letter in "\\|<>*_`":
        text = text.replace(letter, f"\\{letter}")
    return text.replace("\n", " ")
