"""The network interfaces that collectives are told to use exist on every host and are up."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import psutil

from launch.doctor.finding import Finding, fault
from launch.doctor.plan import Asked, Plan

EXACT = ("GLOO_SOCKET_IFNAME", "TP_SOCKET_IFNAME")  # names, separated by commas
PREFIXES = "NCCL_SOCKET_IFNAME"  # prefixes; `=` before them: names; `^`: all but these
LOOPBACK = "lo"


@dataclass(frozen=True)
class Seen:
    interfaces: dict[str, bool]  # name: up, with an address
    chosen: dict[str, str]  # by variable


def look(asked: Asked) -> Seen:
    states, addresses = psutil.net_if_stats(), psutil.net_if_addrs()
    families = {"AF_INET", "AF_INET6"}
    usable = {
        name: state.isup
        and any(address.family.name in families for address in addresses.get(name, ()))
        for name, state in states.items()
    }
    chosen = {name: os.environ[name] for name in (*EXACT, PREFIXES) if os.environ.get(name)}
    return Seen(usable, chosen)


def judge(seen: Mapping[str, Seen], plan: Plan) -> Iterator[Finding]:
    for host, found in seen.items():
        for variable, value in found.chosen.items():
            others = [name for name in sorted(found.interfaces) if name != LOOPBACK]
            named = matching(variable, value, list(found.interfaces))
            fix = f"set {variable} in {plan.variables} to one of: {', '.join(others) or LOOPBACK}"
            if not named:
                yield fault(host, f"{variable}={value}, but there is no such interface", fix)
            elif not any(found.interfaces[name] for name in named):
                yield fault(
                    host,
                    f"{variable}={value}, but {', '.join(named)} is down or has no address",
                    f"`ip link set dev {named[0]} up` on it and give it an address; or {fix}",
                )
            elif plan.is_many and named == [LOOPBACK]:
                yield fault(host, f"{variable}={value} reaches no other host", fix)


def matching(variable: str, value: str, interfaces: list[str]) -> list[str]:
    """The interfaces that a variable means."""
    kind = value[:1] if variable == PREFIXES and value[:1] in "=^" else ""
    words = [word for word in value.removeprefix(kind).split(",") if word]
    if variable in EXACT or kind == "=":
        return [name for name in words if name in interfaces]
    found = [name for name in interfaces if name.startswith(tuple(words))]
    return [name for name in interfaces if name not in found] if kind == "^" else found
