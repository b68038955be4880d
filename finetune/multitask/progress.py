"""How each task's loss falls while several are trained: what weights go by and what is drawn.

The model notes its losses as it is trained; after every step they are summed over the ranks, so
that all ranks set the same weights for the next one.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from finetune.multitask.weighting import Rule
from pretrain.hooks import Done
from runtime import processes


@dataclass
class Noted:
    """What a rank's forwards of the current step gave; tensors stay on their device."""

    losses: list[tuple[int, Tensor, Tensor]] = field(default_factory=list)  # task, sum, targets
    log_variances: Tensor | None = None  # (tasks,) as they were in the step

    def sums(self, num_tasks: int) -> list[float]:
        """Summed loss and targets of each task on this rank, one after the other; forgets them."""
        found = [0.0] * (2 * num_tasks)
        for task, loss, targets in self.losses:
            found[task] += loss.item()
            found[num_tasks + task] += targets.item()
        self.losses.clear()
        return found


class Progress:
    """The hook: weights of the next step from the losses of this one."""

    name = "multitask"

    def __init__(
        self,
        tasks: Sequence[str],
        norms: Sequence[float],
        rule: Rule,
        noted: Noted,
        interval_steps: int,
    ) -> None:
        """`norms`: the loss a target, in nats, that each task's is divided by; `interval_steps`:
        between two points of the curves."""
        self.tasks = list(tasks)
        self.norms = list(norms)
        self.rule = rule
        self.noted = noted
        self.interval_steps = interval_steps
        self.forget()

    def forget(self) -> None:
        """Begin the mean losses that the next point shows."""
        self.sums = [0.0] * len(self.tasks)  # nats
        self.targets = [0.0] * len(self.tasks)

    def weights(self) -> list[float]:
        """Of each task's loss in the next step."""
        return self.rule.weights()

    def state(self) -> dict[str, Any]:
        return {"sums": self.sums, "targets": self.targets, "rule": self.rule.state()}

    def restore(self, state: Mapping[str, Any]) -> None:
        self.sums, self.targets = list(state["sums"]), list(state["targets"])
        self.rule.restore(state["rule"])
        self.noted.losses.clear()

    def after_step(self, done: Done) -> Mapping[str, float]:
        """Curves: mean loss of each task since the last point, and its weight."""
        num_tasks = len(self.tasks)
        used = self.weights_used()
        found = processes.sum_over_ranks(self.noted.sums(num_tasks))
        sums, targets = found[:num_tasks], found[num_tasks:]
        if all(map(math.isfinite, sums)):  # a step that is not was refused on all ranks
            self.sums = [a + b for a, b in zip(self.sums, sums, strict=True)]
            self.targets = [a + b for a, b in zip(self.targets, targets, strict=True)]
            self.rule.after_step(
                [
                    total / count / norm if count else None
                    for total, count, norm in zip(sums, targets, self.norms, strict=True)
                ]
            )
        if not done.is_last and done.position.step % self.interval_steps:
            return {}
        means = zip(self.tasks, self.sums, self.targets, strict=True)
        metrics = {f"loss_by_task/{t}": total / count for t, total, count in means if count}
        metrics |= {f"weight/{t}": w for t, w in zip(self.tasks, used, strict=True)}
        self.forget()
        return metrics

    def weights_used(self) -> list[float]:
        """Of this step; those of trained log-variances as the model had them."""
        weights = self.rule.weights()
        if self.noted.log_variances is None:
            return weights
        trained = self.noted.log_variances.tolist()
        return [w * math.exp(-s) for w, s in zip(weights, trained, strict=True)]
