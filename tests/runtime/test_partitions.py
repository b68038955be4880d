"""How ZeRO cuts parameters, by hand for small ones; for real in test_engine.py."""

from types import SimpleNamespace as Fake
from typing import Any

import pytest

from runtime import processes
from runtime.optimizers.shares import Share
from runtime.partitions import cut_where_ranks_meet, equal_parts


def address(start: int, numel: int) -> Any:
    return Fake(start=start, numel=numel)


def test_stages_1_and_2_cut_where_ranks_meet() -> None:
    """Rank 1 of 2, of a group of 6 + 4 + 2 elements: it begins with the last of the first."""
    here = [(5, 0, 1), (0, 1, 4), (0, 5, 1)]  # in the parameter, in the flat tensor, elements
    shapes = [(2, 3), (4,), (2,)]
    parameters: list[Any] = [
        Fake(
            shape=shape,
            _hp_mapping=Fake(
                lp_fragment_address=address(start, numel),
                hp_fragment_address=address(offset, numel),
            ),
        )
        for shape, (start, offset, numel) in zip(shapes, here, strict=True)
    ]
    parameters.append(Fake(shape=(9,), _hp_mapping=None))  # lies on rank 0 alone
    number = {id(parameter): i for i, parameter in enumerate(parameters)}
    assert cut_where_ranks_meet(parameters, number) == [
        Share(0, (2, 3), 5, 0, 1),
        Share(1, (4,), 0, 1, 4),
        Share(2, (2,), 0, 5, 1),
    ]


@pytest.mark.parametrize(
    ("rank", "expected"),
    [
        (0, [Share(0, (7,), 0, 0, 4), Share(1, (1,), 0, 4, 1)]),
        (1, [Share(0, (7,), 4, 0, 3)]),  # one element of padding; nothing of the second
    ],
)
def test_stage_3_gives_every_rank_an_equal_part(
    rank: int, expected: list[Share], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "rank", lambda: rank)
    parameters: list[Any] = [
        Fake(ds_shape=(7,), ds_numel=7, ds_tensor=Fake(ds_numel=4)),
        Fake(ds_shape=(1,), ds_numel=1, ds_tensor=Fake(ds_numel=1)),
    ]
    for parameter in parameters:
        parameter.shape = parameter.ds_shape
    number = {id(parameter): i for i, parameter in enumerate(parameters)}
    assert equal_parts(parameters, number) == expected
