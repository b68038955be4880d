"""What people see while a run trains."""

import pytest
from rich.cells import cell_len

from launch import results
from runtime.console_lines import WIDTH, console_line, short_count
from runtime.readable import duration

TRAINING = {
    "loss/train": 3.4119,
    "optim/learning_rate": 2.9e-4,
    "optim/gradient_norm": 0.812,
    "perf/tokens_per_second": 412_345.0,
    "mem/resident_gib": 3.2,
    "mem/device_peak_gib": 62.14,
}


def test_console_line_is_aligned_and_has_units() -> None:
    assert console_line(1200, 50000, TRAINING, seconds_left=11_520.0) == (
        "step  1200/50000  loss  3.412  lr 2.9e-4  grad  0.81  412k tok/s   62.1 GiB  eta 3h12m"
    )


def test_console_line_of_an_evaluation() -> None:
    metrics = {"loss/valid": 2.5, "loss_by_domain/law": 2.25, "eval/f1": 0.91234}
    assert console_line(5, 20, metrics, 60.0) == "step  5/20  valid  2.500  law 2.25  f1 0.9123"


def test_utilization_is_shown_and_waiting_if_it_matters() -> None:
    metrics = {"perf/tokens_per_second": 3_944.0, "perf/mfu": 0.5521, "perf/data_wait_share": 0.004}
    assert console_line(5, 20, metrics, None) == "step  5/20  3.9k tok/s  mfu 55.2%"
    metrics["perf/data_wait_share"] = 0.12
    assert console_line(5, 20, metrics, None).endswith("mfu 55.2%  data wait 12%")


def test_many_domains_are_a_table() -> None:
    metrics = {**TRAINING, "loss/valid": 2.5, "eval/accuracy": 0.51, "eval/bits_per_byte": 1.234}
    for domain, loss in (("biomedical", 2.5), ("law", 12.25), ("法律", 2.75), ("code", 3.0)):
        metrics[f"loss_by_domain/{domain}"] = loss
        metrics[f"accuracy_by_domain/{domain}"] = loss / 10
    del metrics["accuracy_by_domain/code"]
    shown = console_line(1200, 50000, metrics, 11_520.0)
    assert shown == "\n".join(
        [
            "step  1200/50000  loss  3.412  lr 2.9e-4  grad  0.81  412k tok/s   62.1 GiB  "
            "valid  2.500  eta 3h12m",
            "    accuracy 0.51  bits_per_byte 1.234",
            "    domain           loss   accuracy",
            "    biomedical     2.5000     0.2500",
            "    law           12.2500     1.2250",
            "    法律           2.7500     0.2750",
            "    code           3.0000           ",
        ]
    )


def test_no_line_is_long_and_the_first_is_what_status_reads() -> None:
    metrics = {**TRAINING, "loss/valid": 2.5}
    metrics |= {f"mixture/source-{number}": 0.05 for number in range(20)}
    shown = console_line(1200, 50000, metrics, 11_520.0).splitlines()
    assert max(map(cell_len, shown)) <= WIDTH
    assert "".join(shown).count("mixture/source-") == 20
    found = results.STEP_LINE.match(shown[0])
    assert found is not None
    assert found["eta"] == "3h12m"
    assert not any(results.STEP_LINE.match(line) for line in shown[1:])


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0, "0s"), (59.6, "1m0s"), (200, "3m20s"), (11_520, "3h12m"), (190_000, "2d4h")],
)
def test_durations_as_people_say_them(seconds: float, shown: str) -> None:
    assert duration(seconds) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0, "0"), (873.4, "873"), (999.7, "1000"), (41_300, "41k"), (2_880, "2.9k"), (1.2e6, "1.2M")],
)
def test_counts_fit_in_few_characters(value: float, shown: str) -> None:
    assert short_count(value) == shown
