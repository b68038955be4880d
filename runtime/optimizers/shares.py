"""Where the parameters lie in the flat tensors that a sharded optimizer holds.

ZeRO hands an optimizer flat fp32 tensors. Each holds shares of whole parameters: under stages 1 and
2 the matrices and vectors of a group one after the other, cut where ranks meet; under stage 3 an
equal part of every parameter. An update rule that looks at a whole parameter (its root mean square,
its singular values) needs to know them, and to talk to the ranks that hold the rest.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from runtime import processes


@dataclass(frozen=True)
class Share:
    """A run of elements of one parameter in a flat tensor of this rank."""

    parameter: int  # its number in the module's order, the same on all ranks
    shape: tuple[int, ...]  # of the whole parameter
    start: int  # of the parameter's elements: the first that lies here
    offset: int  # of the flat tensor: where it lies
    length: int  # elements

    def of(self, flat: Tensor) -> Tensor:
        """The elements of this share in the flat tensor, or in one laid out alike."""
        return flat.view(-1).narrow(0, self.offset, self.length)

    def within(self, whole: Tensor) -> Tensor:
        """The elements of this share in the whole parameter."""
        return whole.view(-1).narrow(0, self.start, self.length)


class Layout:
    """The shares of every tensor that an optimizer holds, on all ranks. All ranks make it."""

    def __init__(self, tensors: Sequence[Tensor], shares: Sequence[list[Share]], sharded: bool):
        self.index = {id(tensor): i for i, tensor in enumerate(tensors)}
        self.is_sharded = sharded
        # By rank; without sharding every rank holds the same, whole.
        self.shares = processes.gather(list(shares)) if sharded else [list(shares)]
        self.rank = processes.rank() if sharded else 0
        everything = [share for rank in self.shares for own in rank for share in own]
        self.num_parameters = 1 + max(share.parameter for share in everything)

    def mine(self, tensor: Tensor) -> list[Share]:
        """The shares in a tensor of this rank."""
        return self.shares[self.rank][self.index[id(tensor)]]

    def numels(self, tensor: Tensor) -> list[int]:
        """Elements of each whole parameter that the tensor has a share of; 1 for all others."""
        numels = [1] * self.num_parameters
        for share in self.mine(tensor):
            numels[share.parameter] = math.prod(share.shape)
        return numels

    def sum_over_ranks(self, values: Tensor) -> None:
        """Add the values of all ranks, in place. All ranks call it for the same tensor."""
        if self.is_sharded:
            processes.add_over_ranks(values)

    def owner(self, share: Share) -> int:
        """The rank that works on the whole parameter of this share."""
        return share.parameter % len(self.shares)

    def assembled(self, tensor: Tensor, values: Tensor) -> dict[int, Tensor]:
        """The whole parameters that this rank works on, from the values of all ranks.

        `values` is laid out like `tensor`. All ranks call it for the same tensor.
        """
        everyone = [rank[self.index[id(tensor)]] for rank in self.shares]
        sent = [self.joined(values, self.owned(everyone[self.rank], r)) for r in self.ranks()]
        due = [self.owned(theirs, self.rank) for theirs in everyone]
        received = self.exchanged(sent, [sum(s.length for s in shares) for shares in due])
        whole: dict[int, Tensor] = {}
        for shares, values_of_rank in zip(due, received, strict=True):
            lengths = [share.length for share in shares]
            for share, part in zip(shares, torch.split(values_of_rank, lengths), strict=True):
                empty = whole.get(share.parameter)
                if empty is None:
                    empty = whole[share.parameter] = values.new_empty(share.shape)
                share.within(empty).copy_(part)
        return whole

    def returned(self, tensor: Tensor, whole: dict[int, Tensor], values: Tensor) -> None:
        """Write each rank's shares of whole parameters back into its `values`: `assembled` the
        other way."""
        everyone = [rank[self.index[id(tensor)]] for rank in self.shares]
        sent = []
        for theirs in everyone:
            parts = [
                share.within(whole[share.parameter]) for share in self.owned(theirs, self.rank)
            ]
            sent.append(torch.cat(parts) if parts else values.new_empty(0))
        due = [self.owned(everyone[self.rank], r) for r in self.ranks()]
        received = self.exchanged(sent, [sum(s.length for s in shares) for shares in due])
        for shares, values_of_rank in zip(due, received, strict=True):
            lengths = [share.length for share in shares]
            for share, part in zip(shares, torch.split(values_of_rank, lengths), strict=True):
                share.of(values).copy_(part)

    def owned(self, shares: list[Share], rank: int) -> list[Share]:
        """Those of parameters that a rank works on."""
        return [share for share in shares if self.owner(share) == rank]

    def joined(self, values: Tensor, shares: list[Share]) -> Tensor:
        return torch.cat([share.of(values) for share in shares]) if shares else values.new_empty(0)

    def ranks(self) -> range:
        return range(len(self.shares))

    def exchanged(self, sent: list[Tensor], lengths: list[int]) -> list[Tensor]:
        return processes.exchange(sent, lengths) if self.is_sharded else sent
