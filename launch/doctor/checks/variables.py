"""Environment variables that a login brings and a run does not bear."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from urllib.request import proxy_bypass

from launch.doctor.finding import Finding, fault, odd_ones, warning
from launch.doctor.plan import Asked, Plan

RANKS = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
VISIBLE = "CUDA_VISIBLE_DEVICES"
PROXIES = ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY")
# Variable, value, what it does. An empty value stands for any.
SLOW = (
    ("CUDA_LAUNCH_BLOCKING", "1", "makes every kernel wait for the one before"),
    ("TORCH_DISTRIBUTED_DEBUG", "DETAIL", "checks every collective a second time"),
    ("NCCL_P2P_DISABLE", "1", "sends what GPUs of a machine exchange through its memory"),
    ("NCCL_IB_DISABLE", "1", "sends what hosts exchange over TCP instead of InfiniBand"),
    ("NCCL_DEBUG", "TRACE", "writes a line for every call of NCCL"),
    ("TORCH_NCCL_BLOCKING_WAIT", "1", "makes every collective wait for the device"),
    ("PYTHONDEVMODE", "1", "runs Python with checks for its developers"),
)
BINDING = ("OMP_PROC_BIND", "GOMP_CPU_AFFINITY", "KMP_AFFINITY")
UNBOUND = ("false", "none", "disabled")


@dataclass(frozen=True)
class Seen:
    values: dict[str, str]  # of the variables named here; none can be a secret
    proxied: list[str]  # hosts of the run that a proxy is asked for


def look(asked: Asked) -> Seen:
    names = (*RANKS, VISIBLE, *BINDING, *(name for name, _, _ in SLOW))
    values = {name: os.environ[name] for name in names if name in os.environ}
    return Seen(values, proxied(asked))


def proxied(asked: Asked) -> list[str]:
    """Hosts that Python and gRPC would reach through a proxy, which cannot reach them."""
    if not any(os.environ.get(name) for name in PROXIES):
        return []
    names = ["localhost", "127.0.0.1", *(host.name for host in asked.plan.hosts)]
    return [name for name in dict.fromkeys(names) if not proxy_bypass(name)]


def judge(seen: Mapping[str, Seen], plan: Plan) -> Iterator[Finding]:
    for host, found in seen.items():
        ranks = [name for name in RANKS if name in found.values]
        if ranks and plan.reached != "srun":
            told = ", ".join(f"{name}={found.values[name]}" for name in ranks)
            yield fault(
                host,
                f"{told}: a stage started by hand takes itself for a rank and waits for the others",
                f"`unset {' '.join(ranks)} MASTER_ADDR MASTER_PORT`, also in its start-up files",
            )
        for name, value, effect in SLOW:
            if found.values.get(name, "").upper() == value:
                yield warning(host, f"{name}={value} {effect}", f"`unset {name}`")
        for name in BINDING:
            bound = found.values.get(name)
            if bound and bound.lower() not in UNBOUND and (plan.slots(host) or 1) > 1:
                yield warning(
                    host,
                    f"{name}={bound} binds the threads of all ranks to the same cores",
                    f"`unset {name}`",
                )
        if found.proxied:
            yield warning(
                host,
                f"a proxy is asked for {', '.join(found.proxied)}, which it cannot reach",
                f"add `NO_PROXY={','.join(found.proxied)}` to {plan.variables}",
            )
    yield from judge_visible(seen)


def judge_visible(seen: Mapping[str, Seen]) -> Iterator[Finding]:
    """Ranks choose devices by their number, so every host must show the same."""
    usual, odd = odd_ones({host: found.values.get(VISIBLE) for host, found in seen.items()})
    for host, value in odd.items():
        yield warning(
            host,
            f"{VISIBLE} is {'not set' if value is None else value}, elsewhere "
            f"{'not set' if usual is None else usual}",
            f"set the devices by `slots` in the hostfile and unset {VISIBLE}",
        )
