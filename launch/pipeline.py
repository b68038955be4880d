"""`textmill run`: the stages of a recipe in order, each skipped when its inputs are unchanged.

Every stage is asked for its plan just before its turn, because the plan depends on what the stage
before it wrote. The first failure ends the run with the exit code of the stage; the same command
continues it. After the last stage come the report and a summary. Under SLURM the stages become jobs
instead (`launch/slurm/`).
"""

import os
import time
from pathlib import Path

from launch import journal, stage_process, summary
from launch.hosts.driver import Wanted
from launch.hosts.layout import ALONE, Layout, layout_of
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
    if recipe.launch.launcher == "slurm":
        from launch.slurm import command as slurm_command  # late: no other launcher needs it

        slurm_command.run(arguments, recipe)
        return
    layout = layout_of(recipe, arguments.recipe, arguments.overrides)
    if arguments.dry_run:
        for stage in wanted:
            command.print_plan(stages.plan(stage, recipe))
        print(f"ranks: {layout}")
        return
    started = time.monotonic()
    recipe.output.mkdir(parents=True, exist_ok=True)
    provenance.write_text(recipe.output / "recipe.toml", to_toml(recipe))
    notes = journal.begin(arguments.recipe, arguments.overrides, recipe.output)
    with stage_process.noted() as stops:
        for stage in wanted:
            plan = stages.plan(stage, recipe)
            if stops:
                raise StopRequested(
                    f"stopped before {stage}; run the same command again to continue"
                )
            if plan.is_done:
                print(f"{stage}: up to date", flush=True)
                continue
            if plan.pending:
                raise RecipeError(f"{stage} cannot start: {plan.pending}")
            on = layout if stage in stage_process.RANKED else ALONE
            run_stage(stage, recipe, arguments, notes, on)
    summary.print_summary(recipe.output, wanted, time.monotonic() - started)


def run_stage(
    stage: str,
    recipe: Recipe,
    arguments: command.Arguments,
    notes: journal.Journal,
    layout: Layout,
) -> None:
    """Run one stage, keep the journal, raise if it did not finish."""
    log = recipe.output / "logs" / f"{stage}.log"
    print(f"{stage}: starting, {layout}, log {log}", flush=True)
    entry = journal.Entry("running", os.getpid(), journal.now())
    notes.stages[stage] = entry
    journal.write(recipe.output, notes)
    started = time.monotonic()
    while True:
        outcome = run_once(stage, recipe, arguments, layout, log)
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


def run_once(
    stage: str, recipe: Recipe, arguments: command.Arguments, layout: Layout, log: Path
) -> stage_process.Outcome:
    """Start a stage and wait for its end."""
    program = stage_process.program(stage, arguments.recipe, arguments.overrides)
    if layout.is_one_process:
        environment = stage_process.environment(stage, recipe)
        return stage_process.run(stage, program, environment, log)
    wanted = Wanted(
        nodes=layout.nodes,
        program=program,
        logs=recipe.output / "logs" / stage,
        cache=recipe.output / "cache",
        environment=layout.environment,
        threads=recipe.engine.threads_per_rank,
    )
    return stage_process.run_ranks(stage, wanted, log)


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
