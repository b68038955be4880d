"""Online weights: what is fitted, what is preferred; a run that goes on decides the same."""

import json
import math
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from data_prep.mixture import Mixture, Online, Order, sample_order
from data_prep.shards import Corpus
from pretrain import hooks
from pretrain.evaluate import Evaluation
from pretrain.hooks import Done
from pretrain.reweighting import Law, Learning, OnlineMixing, fit, floored, preferred
from runtime.checkpoint import Position
from runtime.errors import RecipeError
from tests.pretrain.conftest import RECIPE, write_corpus
from tests.ranks import run_ranks

STEPS, EVERY, BATCH, TOKENS = 40, 2, 16, 1000  # of a run; samples and tokens a step
LOOSE = Online(warmup_share=0.0, min_evaluations=3)
Losses = Callable[[int], Mapping[str, float]]  # of each domain, after so many tokens


def corpus(valid: int = 8, **samples: tuple[str, int]) -> Corpus:
    """Sources by name: their domain and samples for training, of 10 tokens."""
    sources = {
        name: SimpleNamespace(
            domain=domain,
            splits={
                "train": {"num_samples": size, "num_tokens": 10 * size},
                "valid": {"num_samples": valid},
            },
        )
        for name, (domain, size) in samples.items()
    }
    found: Any = SimpleNamespace(sources=sources)
    return found  # type: ignore[no-any-return]


FOUR = corpus(a=("one", 300), b=("two", 200), c=("three", 100), d=("three", 300))


def mixing(table: Mixture, on: Corpus = FOUR, ahead_steps: int = 0) -> OnlineMixing:
    return OnlineMixing(table, on, 5, lambda step: step * BATCH, ahead_steps)


def online(**more: Any) -> Mixture:
    return Mixture(strategy="online", online=LOOSE, **more)


def laws(tokens: int) -> dict[str, float]:
    """One has learned what there is, two learns on, three hardly began."""
    return {
        "one": 2.0 + 1e-3 * (tokens / 1000) ** -0.5,
        "two": 1.5 + 2.0 * (tokens / 1000) ** -0.3,
        "three": 1.0 + 6.0 * (tokens / 1000) ** -0.1,
    }


def run(
    to: OnlineMixing,
    losses: Losses = laws,
    first: int = 0,
    last: int = STEPS,
    data_offset: int = 0,
) -> tuple[list[Order], list[str], list[Mapping[str, float]]]:
    """Steps as the loop takes them: the order of each, the state after it, and its metrics."""
    orders, states, metrics = [], [], []
    for step in range(first, last):
        orders.append(to.order((step + data_offset) * BATCH, BATCH))
        done = step + 1
        position = Position(step=done, tokens=done * TOKENS, data_offset=data_offset)
        evaluation = None
        if done % EVERY == 0:
            found = losses(position.tokens)
            named = {f"loss_by_domain/{domain}": loss for domain, loss in found.items()}
            evaluation = Evaluation(named, 0.0)
        metrics.append(to.after_step(Done(position, done / STEPS, done == STEPS, evaluation)))
        states.append(json.dumps(hooks.states([to])))
    return orders, states, metrics


def assert_same(found: Sequence[Order], expected: Sequence[Order]) -> None:
    for one, other in zip(found, expected, strict=True):
        assert (one.source == other.source).all()
        assert (one.sample == other.sample).all()
        assert (one.epoch == other.epoch).all()


@pytest.mark.parametrize("law", [Law(2.0, 1.5, 0.3), Law(0.0, 4.0, 0.05), Law(1.0, 0.2, 0.8)])
def test_a_law_is_found_again(law: Law) -> None:
    tokens = [100.0, 250.0, 400.0, 700.0, 1000.0]
    found = fit(tokens, [law.epsilon + law.beta * (n / 1000) ** -law.alpha for n in tokens])
    assert found.alpha == law.alpha
    assert (found.epsilon, found.beta) == pytest.approx((law.epsilon, law.beta), abs=1e-6)
    assert found.speed == pytest.approx(law.alpha * law.beta, abs=1e-6)


def test_one_evaluation_gone_wrong_does_not_change_a_law() -> None:
    law = Law(2.0, 1.5, 0.3)
    tokens = [100.0 * i for i in range(1, 11)]
    losses = [law.epsilon + law.beta * (n / 1000) ** -law.alpha for n in tokens]
    losses[4] *= 1.3
    assert fit(tokens, losses).speed == pytest.approx(law.speed, rel=0.02)


def test_a_loss_that_rises_or_stands_still_has_no_speed() -> None:
    assert fit([1.0, 2.0, 3.0, 4.0], [2.0, 2.1, 2.2, 2.3]).speed == 0
    assert fit([1.0, 2.0, 3.0], [2.0, 2.0, 2.0]).speed == 0


def test_preference_by_hand() -> None:
    """mu x sqrt(h) x speed: 0.5 x 0.5 x 1 to 0.5 x 0.8 x 5 is 1 to 8; nobody learns: mu."""
    table = Online(min_share=0.05)
    prior, credit = (0.5, 0.5), (0.25, 0.64)
    assert preferred(table, prior, credit, (1.0, 5.0)) == pytest.approx((1 / 9, 8 / 9))
    assert preferred(table, prior, credit, (0.0, 1.0)) == pytest.approx((0.05, 0.95))
    assert preferred(table, (0.2, 0.8), credit, (0.0, 0.0)) == pytest.approx((0.2, 0.8))


def test_raising_one_share_may_make_another_too_small() -> None:
    assert floored([0.0, 0.11, 0.89], 0.1) == pytest.approx((0.1, 0.1, 0.8))
    assert floored([0.3, 0.7], 0.1) == pytest.approx((0.3, 0.7))


def test_shares_by_hand() -> None:
    """At step 10 the mean is mu, which stood alone; at step 20 half of it is the preference."""
    prior = (0.5, 0.5)
    start = Learning(0, prior, prior, prior, prior)
    table = Online(credit_power=0.0)
    first = start.changed(table, prior, (1.0, 3.0), 10)
    assert first.preference == pytest.approx((0.25, 0.75))
    assert first.shares == pytest.approx((0.1 * 0.25 + 0.9 * 0.5, 0.1 * 0.75 + 0.9 * 0.5))
    second = first.changed(table, prior, (1.0, 3.0), 20)
    assert second.average == pytest.approx((0.375, 0.625))
    assert second.shares == pytest.approx((0.1 * 0.25 + 0.9 * 0.375, 0.1 * 0.75 + 0.9 * 0.625))
    kept = 0.9**10  # ten steps of h = 0.1 share + 0.9 h
    assert second.credit[0] == pytest.approx(kept * 0.5 + (1 - kept) * first.shares[0])


def test_a_domain_that_still_learns_gains_what_a_learned_one_loses() -> None:
    to = mixing(online())
    orders, _, metrics = run(to)
    shares = dict(zip(to.domains, to.learning.shares, strict=True))
    begin = dict(zip(to.domains, to.prior, strict=True))
    assert shares["three"] > begin["three"] + 0.1
    assert shares["one"] < begin["one"] - 0.1
    assert min(shares.values()) >= 0.01
    speeds = metrics[STEPS - EVERY - 1]
    assert speeds["learning_speed/three"] > speeds["learning_speed/two"]
    assert speeds["learning_speed/two"] > speeds["learning_speed/one"]
    early = np.bincount(np.concatenate([it.source for it in orders[:6]]), minlength=4)
    late = np.bincount(np.concatenate([it.source for it in orders[-6:]]), minlength=4)
    assert late[0] < early[0]
    assert late[2] + late[3] > early[2] + early[3]


def test_sources_of_a_domain_keep_their_proportion_and_all_weights_sum_to_1() -> None:
    to = mixing(online())
    run(to)
    assert len(to.history.stretches) == 1 + 17  # evaluations at 2, ..., 38 but the first two
    for stretch in to.history.stretches:
        assert stretch.weights[3] == pytest.approx(3 * stretch.weights[2])
        assert math.fsum(stretch.weights) == pytest.approx(1)


def test_metrics_at_every_evaluation_name_each_source() -> None:
    _, _, metrics = run(mixing(online()))
    assert metrics[0] == {}
    assert metrics[1] == pytest.approx(
        {"mixture/a": 3 / 9, "mixture/b": 2 / 9, "mixture/c": 1 / 9, "mixture/d": 3 / 9}
    )
    assert metrics[5]["mixture/a"] < 3 / 9
    assert {tag for tag in metrics[-1] if tag.startswith("mixture/")} == set(metrics[1])


@pytest.mark.parametrize("ahead_steps", [0, 3])
def test_resumed_at_any_step_it_decides_the_same(ahead_steps: int) -> None:
    orders, states, _ = run(mixing(online(), ahead_steps=ahead_steps))
    for step in range(1, STEPS, 5):
        resumed = mixing(online(), ahead_steps=ahead_steps)
        hooks.restore([resumed], json.loads(states[step - 1]))
        again, later, _ = run(resumed, first=step)
        assert later == states[step:]
        assert_same(again, orders[step:])


def test_the_history_is_in_the_state() -> None:
    to = mixing(online())
    _, states, _ = run(to, last=8)
    history = json.loads(states[-1])["mixture"]["history"]
    assert [start for start, _ in history] == [0, 6 * BATCH, 8 * BATCH]
    assert history[0][1] == pytest.approx([3 / 9, 2 / 9, 1 / 9, 3 / 9])
    assert history[2][1] == list(to.history.stretches[2].weights)


def test_steps_prepared_ahead_are_not_changed() -> None:
    to = mixing(online(), ahead_steps=2)
    prepared = [to.order(step * BATCH, BATCH) for step in range(8)]
    run(to, last=6)  # weights change after step 6, for the first time
    assert_same([to.order(step * BATCH, BATCH) for step in range(8)], prepared)
    assert to.history.stretches[-1].start == 8 * BATCH


def test_a_run_that_went_back_changes_weights_where_its_data_is() -> None:
    _, states, _ = run(mixing(online()), last=8)
    to = mixing(online())
    hooks.restore([to], json.loads(states[-1]))
    run(to, first=8, last=10, data_offset=5)
    assert [it.start for it in to.history.stretches][-2:] == [8 * BATCH, 15 * BATCH]


def test_every_sample_once_an_epoch_and_limits_hold() -> None:
    small = corpus(a=("one", 150), b=("two", 20), c=("three", 10), d=("three", 70))
    to = mixing(online(max_epochs={"a": 0.5}), small)
    orders, _, _ = run(to)
    source = np.concatenate([it.source for it in orders])
    sample = np.concatenate([it.sample for it in orders])
    epoch = np.concatenate([it.epoch for it in orders])
    assert (source == 0).sum() == 75
    for number, size in enumerate(to.counts):
        for one in range(int(epoch[source == number].max())):
            seen = sample[(source == number) & (epoch == one)]
            assert sorted(seen.tolist()) == list(range(size))


def test_before_the_first_change_the_order_is_that_of_the_start_weights() -> None:
    to = mixing(online())
    orders, _, _ = run(to, last=6)
    fixed = sample_order(to.counts, to.begin, 5, 0, 6 * BATCH)
    assert (np.concatenate([it.sample for it in orders]) == fixed.sample).all()


def test_warm_up_and_few_evaluations_change_nothing() -> None:
    late = Mixture(strategy="online", online=Online(warmup_share=0.5, min_evaluations=4))
    to = mixing(late)
    run(to)
    assert to.learning.losses[0][0] == 20 * TOKENS
    assert to.history.stretches[1].start == 26 * BATCH
    assert late.online.num_changes(STEPS, EVERY) == len(to.history.stretches) - 1
    assert Online().num_changes(40, 10) == 0


@pytest.mark.parametrize("broken", [math.nan, math.inf, 0.0])
def test_an_evaluation_that_is_not_a_number_is_left_out(broken: float) -> None:
    to = mixing(online())
    run(to, lambda tokens: laws(tokens) | ({"two": broken} if tokens == 8 * TOKENS else {}))
    assert [tokens // TOKENS for tokens, _ in to.learning.losses][:5] == [2, 4, 6, 10, 12]
    assert 8 * BATCH not in [it.start for it in to.history.stretches]


def test_a_domain_without_validation_keeps_its_weight() -> None:
    some = corpus(a=("one", 100), b=("two", 100), c=("other", 200))
    some.sources["c"].splits["valid"]["num_samples"] = 0
    to = mixing(online(), some)
    run(to)
    assert {it.weights[2] for it in to.history.stretches} == {0.5}
    assert to.history.stretches[-1].weights[0] < 0.25


def test_a_source_of_weight_0_stays_out() -> None:
    to = mixing(online(weights={"a": 1.0, "b": 1.0, "c": 0.0, "d": 0.0}))
    orders, _, metrics = run(to)
    assert set(np.concatenate([it.source for it in orders]).tolist()) == {0, 1}
    assert list(to.domains) == ["one", "two"]
    assert "mixture/c" not in metrics[-1]


@pytest.mark.parametrize(
    ("on", "table", "told"),
    [
        (corpus(a=("one", 9), b=("one", 9)), online(), "needs two domains"),
        (corpus(0, a=("one", 9), b=("two", 9)), online(), "there is none: name"),
        (
            corpus(a=("one", 9), b=("two", 9), c=("three", 9)),
            Mixture(strategy="online", online=Online(min_share=0.4)),
            r"min_share \(0.4\) x 3 domains must be below 1; at most 0.3",
        ),
    ],
)
def test_nothing_to_choose_between_is_refused(on: Corpus, table: Mixture, told: str) -> None:
    with pytest.raises(RecipeError, match=told):
        mixing(table, on)


@pytest.fixture(scope="module")
def reweighted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of 12 steps by the commands, evaluated after every second one."""
    folder = tmp_path_factory.mktemp("reweighted")
    write_corpus(folder)
    recipe = RECIPE.replace("evaluate_every_steps = 6", "evaluate_every_steps = 2")
    for name in ("plants", "ships"):
        recipe = recipe.replace(f"[sources.{name}]", f'[sources.{name}]\ndomain = "{name}"')
    recipe += '[mixture]\nstrategy = "online"\nonline = { warmup_share = 0, min_evaluations = 3 }\n'
    (folder / "recipe.toml").write_text(recipe, encoding="utf-8")
    for stage in ("data_prep", "pretrain"):
        done = run_ranks(["-m", stage, "recipe.toml"], 1, folder)
        assert done.exit_codes == [0], done.text
    return folder


def test_a_run_keeps_its_history_in_checkpoints_and_draws_it(reweighted: Path) -> None:
    newest = reweighted / "run/pretrain/checkpoints/step-00000012/MANIFEST.json"
    state = json.loads(newest.read_text(encoding="utf-8"))["position"]["state"]["mixture"]
    assert [start for start, _ in state["history"]] == [0, 6 * 16, 8 * 16, 10 * 16]
    rows = rows_of(reweighted)
    changed = [row for row in rows if "mixture/plants" in row]
    drawn = [[row["mixture/plants"], row["mixture/ships"]] for row in changed]
    expected = [weights for _, weights in state["history"]]
    places = (0, 0, 1, 2, 3, 3)  # which weights are the newest after steps 2, 4, ..., 12
    assert drawn == [expected[place] for place in places]
    assert rows[6]["learning_speed/plants"] >= 0


def rows_of(folder: Path) -> list[dict[str, float]]:
    """Metrics by step, without those of time and memory."""
    lines = (folder / "run/pretrain/metrics.jsonl").read_text(encoding="utf-8").splitlines()
    kept = ("loss", "mixture/", "learning_speed/", "data/tokens", "optim/")
    return [
        {tag: value for tag, value in json.loads(line).items() if tag.startswith(kept)}
        for line in lines
    ]


def test_a_resumed_run_reweights_the_same(reweighted: Path, tmp_path: Path) -> None:
    folder = tmp_path / "again"
    shutil.copytree(reweighted, folder)
    shutil.rmtree(folder / "run/pretrain/checkpoints/step-00000012")
    (folder / "run/pretrain/manifest.json").unlink()
    done = run_ranks(["-m", "pretrain", "recipe.toml"], 1, folder)
    assert done.exit_codes == [0], done.text
    assert rows_of(folder) == rows_of(reweighted)
