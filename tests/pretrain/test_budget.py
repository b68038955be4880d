"""What every step takes: ramps and phases to the token, whatever the step is."""

import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from pretrain.budget import Budget, budget_of
from pretrain.config import Train
from runtime.errors import RecipeError

LENGTH = 64  # tokens a sample of the shards


def budget(**table: Any) -> Budget:
    given = {"total_tokens": 64_000, "global_batch_size": 16, "micro_batch_size": 2}
    return budget_of(Train.model_validate(given | table), LENGTH)


def steps(of: Budget) -> list[tuple[int, int, int, int, int]]:
    return [
        (p.phase, p.first_sample, p.num_samples, p.tokens_before, p.num_tokens)
        for p in map(of.at, range(of.total_steps))
    ]


def test_a_plain_run_takes_equal_steps() -> None:
    plain = budget(total_tokens=5000)
    assert steps(plain) == [(0, 16 * n, 16, 1024 * n, 1024) for n in range(5)]
    assert plain.total_tokens == 5120  # rounded up to whole steps
    assert [plain.share_done(step) for step in (0, 1, 5, 9)] == [0.0, 0.2, 1.0, 1.0]
    assert plain.lines() == ["steps   5 of 1,024 tokens = 5,120"]


def test_the_batch_doubles_over_equal_portions() -> None:
    """6,400 tokens for 4 and for 8 samples: 12.5 and 6.25 steps, rounded up where they end."""
    ramp = budget(ramp_from=4, ramp_share=0.2)
    sizes = [portion[2] for portion in steps(ramp)]
    assert sizes == [4] * 25 + [8] * 13 + [16] * 50  # 6,400 + 6,656 + 51,200 = 64,256 tokens
    assert ramp.at(25).tokens_before == 6400
    assert ramp.at(38) == ramp.stretches[2]
    assert (ramp.at(38).tokens_before, ramp.at(38).first_sample) == (13_056, 204)
    assert ramp.total_tokens == 64_256
    assert ramp.batch_sizes == (4, 8, 16)
    assert ramp.lines()[1:] == [
        "        from step 0: phase 0, a step takes 4 samples of 64 tokens",
        "        from step 25: phase 0, a step takes 8 samples of 64 tokens",
        "        from step 38: phase 0, a step takes 16 samples of 64 tokens",
    ]


def test_a_phase_of_longer_samples_takes_fewer_of_them() -> None:
    two = budget(phases=[{"share": 0.9}, {"share": 0.1, "sequence_length": 128}])
    # 57,600 tokens are 56.25 steps: the second phase begins with step 57, sample 0 of its order
    assert two.first_step(1) == two.end_step(0) == 57
    assert two.at(56).first_sample == 56 * 16
    assert (two.at(57).first_sample, two.at(57).num_samples) == (0, 8)
    assert two.at(58).first_sample == 8
    assert {portion[4] for portion in steps(two)} == {1024}
    assert two.total_steps == two.end_step(1) == 63
    assert (two.num_samples(0), two.num_samples(1)) == (57 * 16, 6 * 8)
    assert (two.micro_size_of(0), two.micro_size_of(1), two.longest) == (2, 1, 128)


def test_a_ramp_may_reach_into_the_second_phase() -> None:
    both = budget(
        ramp_from=8,
        ramp_share=0.5,
        phases=[{"share": 0.25}, {"share": 0.75, "sequence_length": 32}],
    )
    firsts = [(p.step, p.phase, p.first_sample, p.num_samples) for p in both.stretches]
    # 16,000 tokens are 31.25 steps of 512; 32,000 tokens are reached at step 63
    assert firsts == [(0, 0, 0, 8), (32, 1, 0, 16), (63, 1, 31 * 16, 32)]


def test_past_the_end_the_last_stretch_goes_on() -> None:
    two = budget(phases=[{"share": 0.5}, {"share": 0.5}])
    last, after = two.at(two.total_steps - 1), two.at(two.total_steps + 3)
    assert after.phase == 1
    assert after.first_sample == last.first_sample + 4 * 16
    assert two.share_done(two.total_steps + 3) == 1.0


def test_ten_million_steps_cost_no_more_than_ten() -> None:
    long = budget(
        total_tokens=10**7 * 1024 * 256,
        global_batch_size=16 * 256,
        ramp_from=256,
        ramp_share=0.1,
        phases=[{"share": 0.7}, {"share": 0.2, "sequence_length": 128}, {"share": 0.1}],
    )
    assert long.total_steps > 10**7
    began = time.process_time()
    for step in range(0, long.total_steps, long.total_steps // 1000):
        long.at(step)
    assert time.process_time() - began < 0.5
    last = long.at(long.total_steps - 1)
    assert 0 <= long.total_tokens - 10**7 * 1024 * 256 < last.num_tokens
    assert last.tokens_before + last.num_tokens == long.total_tokens


@st.composite
def tables(draw: st.DrawFn) -> dict[str, Any]:
    micro, doublings = draw(st.sampled_from([2, 4])), draw(st.integers(0, 3))
    smallest = micro * draw(st.integers(1, 3))
    count = draw(st.integers(1, 3))
    parts = [draw(st.integers(1, 9)) for _ in range(count)]
    table: dict[str, Any] = {
        "total_tokens": draw(st.integers(150_000, 300_000)),
        "global_batch_size": smallest * 2**doublings,
        "micro_batch_size": micro,
        "phases": [
            {"share": part / sum(parts), "sequence_length": draw(st.sampled_from([32, 64, 128]))}
            for part in parts
        ],
    }
    if doublings:
        table |= {"ramp_from": smallest, "ramp_share": draw(st.floats(0.3, 0.7))}
    return table


@given(tables())
@settings(max_examples=40, deadline=None)
def test_steps_follow_each_other_without_gap(table: dict[str, Any]) -> None:
    """Tokens and samples of a step begin where those of the step before end."""
    found = budget(**table)
    tokens, samples = 0, dict.fromkeys(range(len(found.lengths)), 0)
    for step in range(found.total_steps):
        portion = found.at(step)
        assert portion.tokens_before == tokens < table["total_tokens"]
        assert portion.first_sample == samples[portion.phase]
        assert portion.num_samples * found.lengths[portion.phase] == portion.num_tokens
        assert portion.num_samples % found.micro_size_of(portion.phase) == 0
        assert found.share_done(step) == tokens / found.total_tokens
        tokens += portion.num_tokens
        samples[portion.phase] += portion.num_samples
    assert found.total_tokens == tokens >= table["total_tokens"]
    assert list(samples.values()) == [found.num_samples(phase) for phase in samples]
    assert found.share_done(found.total_steps) == 1.0


@pytest.mark.parametrize(
    ("table", "told"),
    [
        ({"ramp_from": 3}, "ramp_from (3) must reach global_batch_size (16) by doubling; "
                           "nearest: 2 or 4"),
        ({"ramp_from": 16}, "ramp_from (16) must reach .* by doubling; nearest: 8"),
        ({"ramp_from": 5, "global_batch_size": 15}, "nearest: none: an odd number has no half"),
        ({"ramp_from": 4, "micro_batch_size": 8}, "multiple of micro_batch_size (8); nearest: 8"),
        ({"ramp_from": 4, "ramp_share": 1.0}, "ramp_share (1.0) must be above 0 and below 1"),
        ({"ramp_from": 4, "ramp_share": 0.0}, "ramp_share (0.0) must be above 0 and below 1"),
        ({"phases": [{"share": 0.5}, {"share": 0.4}]}, "must sum to 1, they sum to 0.9; "
                                                       "nearest: 0.5 for the last"),
        ({"phases": [{"share": 1.0}, {"share": 0.4}]}, "must sum to 1, they sum to 1.4"),
    ],
)  # fmt: skip
def test_a_recipe_that_cannot_work_is_refused(table: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError) as error:
        budget(**table)
    for part in told.split(" .* "):
        assert part in str(error.value)


@pytest.mark.parametrize(
    ("table", "told"),
    [
        ({"phases": [{"share": 1.0, "sequence_length": 48}]},
         "train.phases.0.sequence_length (48) must divide the tokens of a micro batch, which stay "
         "the same in all phases: train.micro_batch_size x the shards' length = 2 x 64 = 128; "
         "nearest: 32 or 64"),
        ({"phases": [{"share": 0.5}, {"share": 0.5, "sequence_length": 256}]}, "nearest: 128"),
        ({"phases": [{"share": 0.999}, {"share": 0.001}]},
         "train.phases.1 has no step: share (0.001) x train.total_tokens (64,000) is less than the "
         "1,024 tokens of a step; raise share to at least 0.016"),
        ({"ramp_from": 2, "ramp_share": 0.002}, "no step has a batch of 4 or 8 samples: "),
        ({"ramp_from": 8, "ramp_share": 0.999}, "no step has a batch of 16 samples: "),
    ],
)  # fmt: skip
def test_what_leaves_no_whole_step_is_refused(table: dict[str, Any], told: str) -> None:
    with pytest.raises(RecipeError) as error:
        budget(**table)
    assert told in str(error.value)


def test_every_batch_of_a_ramp_is_shared_out_among_the_ranks() -> None:
    ramp = budget(ramp_from=4, ramp_share=0.2)
    ramp.check_ranks(2)
    with pytest.raises(RecipeError, match=r"ramp_from \(4\) .* 2 x 4 = 8; nearest: 8"):
        ramp.check_ranks(4)
