"""The checks, one a module; its name is what `--skip` and `--only` take.

A check either looks at every host or at what only this machine knows:

    class Seen                    a frozen dataclass of JSON values: what one host has seen
    look(asked) -> Seen           runs on every host (`Asked` in launch/doctor/plan.py); no torch
    judge(seen, plan)             pure: what all hosts have seen, by host, to findings

    gather(party, plan)           in place of one `look` each: hosts that act together
    SECONDS                       that a host may take to answer; 20 if absent

    applies(plan) -> bool         of which examinations it is part; of all if absent
    AFTER                         checks whose faults make this one pointless

    examine(plan)                 instead of all of these: findings of this machine alone

`order` in launch/doctor/examination.py finds them; there is nothing to register.
"""
