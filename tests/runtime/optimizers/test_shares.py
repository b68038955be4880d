"""Shares of parameters in flat tensors, by hand; between real ranks in test_engine.py."""

import torch

from runtime.optimizers.shares import Layout, Share


def test_shares_name_elements_of_flat_and_whole() -> None:
    flat = torch.arange(10.0)
    share = Share(parameter=3, shape=(2, 4), start=5, offset=1, length=3)
    assert share.of(flat).tolist() == [1.0, 2.0, 3.0]
    whole = torch.zeros(2, 4)
    share.within(whole).copy_(share.of(flat))
    assert whole.tolist() == [[0, 0, 0, 0], [0, 1, 2, 3]]


def test_parameters_are_assembled_and_returned() -> None:
    flat = torch.arange(11.0)  # a matrix, a vector, and one element of padding
    shares = [Share(0, (2, 3), 0, 0, 6), Share(1, (4,), 0, 6, 4)]
    layout = Layout([flat], [shares], sharded=False)
    assert layout.num_parameters == 2
    assert layout.numels(flat) == [6, 4]
    values = flat * 10
    whole = layout.assembled(flat, values)
    assert whole[0].tolist() == [[0, 10, 20], [30, 40, 50]]
    assert whole[1].tolist() == [60, 70, 80, 90]
    layout.returned(flat, {number: -value for number, value in whole.items()}, values)
    assert values.tolist() == [0, -10, -20, -30, -40, -50, -60, -70, -80, -90, 100]


def test_ranks_share_the_work_on_whole_parameters() -> None:
    layout = Layout([torch.zeros(1)], [[Share(0, (1,), 0, 0, 1)]], sharded=False)
    layout.shares = layout.shares * 3  # as if three ranks held some of it
    owners = [layout.owner(Share(number, (1,), 0, 0, 1)) for number in range(5)]
    assert owners == [0, 1, 2, 0, 1]
