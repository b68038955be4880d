"""The learning rate as a function of the tokens seen: pure, so a resume or another batch size
cannot change it.

Every shape rises linearly from 0 over `warmup_share` of the tokens and ends at `final_share` of the
peak. What lies between:

wsd       stays at the peak, then falls as 1 - sqrt over the last `decay_share` of the tokens
          (Hägele et al. 2024, arXiv 2405.18392, section 4; warm-up, stable, decay: Hu et al. 2024,
          MiniCPM, arXiv 2404.06395)
cosine    half a cosine from the peak to the end (Loshchilov and Hutter 2017, arXiv 1608.03983)
linear    a straight line from the peak to the end (Devlin et al. 2019, arXiv 1810.04805)
constant  stays at the peak; `decay_share` and `final_share` do not apply
"""

import math

from runtime.config import Schedule


def learning_rate(schedule: Schedule, peak: float, tokens_seen: int, total_tokens: int) -> float:
    """The learning rate after `tokens_seen` of `total_tokens`; it stays at the end value later on.

    The first step of a run trains at a rate above 0 if the tokens of the step itself are counted.
    """
    return peak * share_of_peak(schedule, min(tokens_seen / total_tokens, 1.0))


def share_of_peak(schedule: Schedule, progress: float) -> float:
    """The learning rate as a share of the peak, at `progress` in [0, 1]."""
    warmup = schedule.warmup_share
    if progress < warmup:
        return progress / warmup
    if schedule.shape == "constant":
        return 1.0
    decay = schedule.decay_share if schedule.shape == "wsd" else 1.0 - warmup
    start = 1.0 - decay
    if progress <= start or decay == 0.0:
        return 1.0
    fallen = min((progress - start) / decay, 1.0)
    left = {
        "wsd": 1.0 - math.sqrt(fallen),
        "cosine": (1.0 + math.cos(math.pi * fallen)) / 2.0,
        "linear": 1.0 - fallen,
    }[schedule.shape]
    return schedule.final_share + (1.0 - schedule.final_share) * left
