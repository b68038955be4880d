"""`textmill run`: the stages of a recipe in order, each skipped when its inputs are unchanged.

Every stage is asked for its plan just before its turn, because the plan depends on what the stage
before it wrote. The first failure ends the run with the exit code of the stage; the same command
continues it. After the last stage come the report and a summary.
"""

import os
import time
from pathlib import Path

from launch import journal, stage_process, summary
from runtime import command, provenance, stages
from runtime.config import Recipe
from runtime.errors import RESUME_ME, LostRankError, RecipeError, StopRequested, TextmillError
from runtime.readable import duration
from runtime.recipe import load, to_toml


class StageFailed(TextmillError):
    """A stage ended with an error of its own, which it has already printed."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def run(arguments: command.Arguments) -> None:
    """Run what has to be run. Raises what the failing stage's exit code says."""
    recipe = load(arguments.recipe, arguments.overrides, Recipe)
    wanted = [stage for stage in stages.STAGES if stages.is_wanted(stage, recipe)]
    if not wanted:
        raise RecipeError(
            f"{arguments.recipe} has no [sources], no [model] and no [tasks]: nothing to run"
        )
    if arguments.dry_run:
        for stage in wanted:
            command.print_plan(stages.plan(stage, recipe))
        return
    check_launcher(recipe)
    started = time.monotonic()
    recipe.output.mkdir(parents=True, exist_ok=True)
    provenance.write_text(recipe.output / "recipe.toml", to_toml(recipe))
    notes = journal.begin(arguments.recipe, arguments.overrides, recipe.output)
    for stage in wanted:
        plan = stages.plan(stage, recipe)
        if plan.is_done:
            print(f"{stage}: up to date", flush=True)
            continue
        if plan.pending:
            raise RecipeError(f"{stage} cannot start: {plan.pending}")
        run_stage(stage, recipe, arguments, notes)
    summary.print_summary(recipe.output, wanted, time.monotonic() - started)


def check_launcher(recipe: Recipe) -> None:
    """Say at once which launcher this command is not."""
    if recipe.launch.launcher == "deepspeed":
        hosts = recipe.launch.hostfile or "hostfile"
        raise RecipeError(
            "launch.launcher 'deepspeed': textmill run starts ranks on this machine only; on "
            f"several run each stage as `deepspeed --hostfile {hosts} --no_local_rank --module "
            "pretrain RECIPE` (see hostfile.example), or set launch.launcher = 'local'"
        )
    if recipe.launch.launcher == "slurm":
        raise RecipeError(
            "launch.launcher 'slurm': submit slurm/pipeline.sbatch, which queues the stages one "
            "after the other, or set launch.launcher = 'local'"
        )


def run_stage(
    stage: str, recipe: Recipe, arguments: command.Arguments, notes: journal.Journal
) -> None:
    """Run one stage as a process, keep the journal, raise if it did not finish."""
    log = recipe.output / "logs" / f"{stage}.log"
    ranks = recipe.launch.ranks if stage in stage_process.RANKED else 1
    shape = f"{ranks} ranks" if ranks > 1 else "1 process"
    print(f"{stage}: starting, {shape}, log {log}", flush=True)
    entry = journal.Entry("running", os.getpid(), journal.now())
    notes.stages[stage] = entry
    journal.write(recipe.output, notes)
    started = time.monotonic()
    while True:
        line = stage_process.command(stage, arguments.recipe, arguments.overrides, ranks)
        outcome = stage_process.run(stage, line, stage_process.environment(stage, recipe), log)
        if entry.restarts == recipe.launch.restarts or not has_lost_a_rank(outcome):
            break
        entry.restarts += 1
        journal.write(recipe.output, notes)
        print(
            f"{stage}: lost a rank ({in_words(outcome)}); starting again from its last checkpoint, "
            f"restart {entry.restarts} of {recipe.launch.restarts}",
            flush=True,
        )
    seconds = time.monotonic() - started
    is_done = outcome.exit_code == 0 and stages.plan(stage, recipe).is_done
    stopped = outcome.stop_requested or outcome.exit_code == RESUME_ME
    entry.state = "done" if is_done else "stopped" if stopped else "failed"
    entry.ended, entry.exit_code = journal.now(), outcome.exit_code
    journal.write(recipe.output, notes)
    if outcome.stop_requested or not is_done:
        raise ended_early(stage, outcome, is_done, log)
    print(f"{stage}: done in {duration(seconds)}", flush=True)


def has_lost_a_rank(outcome: stage_process.Outcome) -> bool:
    """True if a rank went or hung without being asked to: what starting again may cure."""
    is_lost = outcome.exit_code == LostRankError.exit_code or outcome.signal_name is not None
    return is_lost and not outcome.stop_requested


def in_words(outcome: stage_process.Outcome) -> str:
    """How a stage process ended."""
    return outcome.signal_name or f"exit code {outcome.exit_code}"


def ended_early(
    stage: str, outcome: stage_process.Outcome, is_done: bool, log: Path
) -> TextmillError:
    """The error for a stage that did not finish, or after which a stop was asked for."""
    again = "run the same command again to continue"
    code = outcome.exit_code
    if is_done:
        return StopRequested(f"stopped after {stage}, which is done; {again}")
    if code == RESUME_ME or (outcome.stop_requested and outcome.signal_name):
        return StopRequested(f"{stage} stopped on request; {again}")
    if outcome.signal_name:
        return LostRankError(
            f"a process of {stage} was ended by {outcome.signal_name}"
            + (" (is the machine out of memory?)" if outcome.signal_name == "SIGKILL" else "")
            + f"; see the end of {log}, then {again}"
        )
    if code == 0:
        return StageFailed(f"{stage} ended without an error but is not done; see {log}", 1)
    return StageFailed(f"{stage} ended with exit code {code}; the whole output is in {log}", code)
