"""What a search came to: search.json, best.toml and a table on the console.

search.json: target, task, metric, folds, seed, `space`, the `trials` in order (number, state,
values, score, evaluations, seconds, error), `importance` of each setting, `top` (the best trials
again with other seeds: scores by seed, mean, sample deviation) and `best`. best.toml is the whole
recipe at the winner's values; `python -m finetune best.toml` trains, tests and exports it. Test
rows played no part in choosing it.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from optuna.trial import FrozenTrial, TrialState
from rich.console import Console
from rich.table import Table

from finetune.search import space, trial_recipe
from finetune.search.repeats import Candidate
from finetune.search.running import Setting
from finetune.search.study import Study, value_of
from runtime import provenance
from runtime.errors import DataError
from runtime.readable import duration
from runtime.recipe import to_toml

REPORT, BEST = "search.json", "best.toml"
STATES = {
    TrialState.COMPLETE: "done",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
    TrialState.RUNNING: "running",
    TrialState.WAITING: "waiting",
}


def candidates_of(study: Study, number: int) -> list[Candidate]:
    """The best trials. Raises DataError if none was completed."""
    best = study.best(number)
    if not best:
        errors = [trial.user_attrs.get("error") for trial in study.trials()]
        told = next(filter(None, reversed(errors)), "all were pruned")
        raise DataError(
            f"none of {len(errors)} trials in {study.folder} was completed; the last error: {told}"
        )
    return [Candidate(trial.number, trial.params, value_of(trial)) for trial in best]


def chosen(candidates: Sequence[Candidate]) -> Candidate:
    """The best mean over other seeds, else the best trial."""
    repeated = [candidate for candidate in candidates if candidate.mean is not None]
    if not repeated:
        return candidates[0]
    return max(repeated, key=lambda candidate: candidate.mean or 0.0)


def write(setting: Setting, study: Study, candidates: Sequence[Candidate]) -> dict[str, Any]:
    """search.json and best.toml; returns what the first holds."""
    best = chosen(candidates)
    recipe, table = setting.recipe, setting.recipe.search
    found = {
        "target": setting.target,
        "task": setting.watched.task,
        "metric": setting.watched.metric,
        "folds": table.folds,
        "sampler": table.sampler,
        "pruner": table.pruner,
        "seed": trial_recipe.seed_of(recipe, setting.target),
        "space": {key: space.described(each) for key, each in table.space.items()},
        "trials": [trial_as_json(trial) for trial in study.trials()],
        "importance": study.importance(),
        "top": [candidate_as_json(each) for each in candidates] if table.top else [],
        "best": {
            **candidate_as_json(best),
            "chosen_by": "mean over other seeds" if best.mean is not None else "score",
            "recipe": str(setting.folder / BEST),
        },
    }
    provenance.write_json(setting.folder / REPORT, found)
    text = to_toml(trial_recipe.winner(recipe, best.values))
    provenance.write_text(setting.folder / BEST, text)
    return found


def trial_as_json(trial: FrozenTrial) -> dict[str, Any]:
    return {
        "number": trial.number,
        "state": STATES[trial.state],
        "values": trial.params,
        "score": trial.value,
        "evaluations": len(trial.intermediate_values),
        "seconds": trial.user_attrs.get("seconds"),
        "error": trial.user_attrs.get("error"),
    }


def candidate_as_json(candidate: Candidate) -> dict[str, Any]:
    return {
        "trial": candidate.number,
        "values": candidate.values,
        "score": candidate.score,
        "seeds": {str(seed): score for seed, score in sorted(candidate.scores.items())},
        "mean": candidate.mean,
        "deviation": candidate.deviation,
        "errors": {str(seed): error for seed, error in sorted(candidate.errors.items())},
    }


def show(found: Mapping[str, Any], folder: Path, console: Console) -> None:
    """The trials, best first, what settings matter, and the choice."""
    console.print(table_of(found))
    if found["importance"]:
        shares = ", ".join(f"{key} {share:.0%}" for key, share in found["importance"].items())
        console.print(f"how much each setting matters: {shares}", soft_wrap=True)
    best = found["best"]
    score = best["score"] if best["mean"] is None else best["mean"]
    spread = "" if best["deviation"] is None else f" ± {best['deviation']:.4f}"
    seeds = "" if best["mean"] is None else f" over {len(best['seeds'])} other seeds"
    console.print(
        f"best: trial {best['trial']}, {found['metric']} {score:.4f}{spread}{seeds}: "
        f"{space.shown(best['values'])}\nrecipe: {best['recipe']}\nmore in {folder / REPORT}",
        soft_wrap=True,
        markup=False,
    )


def table_of(found: Mapping[str, Any]) -> Table:
    """One line a trial, the best first; pruned and failed ones last."""
    table = Table(title=f"{found['target']}: {found['metric']}", title_justify="left")
    again = {each["trial"]: each for each in found["top"] if each["mean"] is not None}
    for name in ("trial", "values", "score", *(["other seeds"] if again else []), "time", "state"):
        table.add_column(name, justify="right" if name in ("trial", "score", "time") else "left")
    order = list(STATES.values())
    ranked = sorted(
        found["trials"],
        key=lambda trial: (order.index(trial["state"]), -(trial["score"] or 0.0)),
    )
    for trial in ranked:
        cells = [
            str(trial["number"]),
            space.shown(trial["values"]),
            "" if trial["score"] is None else f"{trial['score']:.4f}",
        ]
        if again:
            cells.append(mean_in_words(again.get(trial["number"])))
        seconds = trial["seconds"]
        cells.append("" if seconds is None else duration(seconds))
        state = trial["state"] + (f": {trial['error']}" if trial["error"] else "")
        table.add_row(*cells, state)
    return table


def mean_in_words(candidate: Mapping[str, Any] | None) -> str:
    if candidate is None:
        return ""
    spread = "" if candidate["deviation"] is None else f" ± {candidate['deviation']:.4f}"
    return f"{candidate['mean']:.4f}{spread}"
