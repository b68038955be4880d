"""Faults that cannot be planted here, told to the checks as facts: several GPUs, users, kernels."""

from launch.doctor.checks import bandwidth, devices, limits, machines, slurm, user, variables
from launch.doctor.finding import Finding, odd_ones
from launch.doctor.plan import Host, Plan

TWO = Plan((Host("a", 2), Host("b", 2)), "ssh")
TORCH = {"count": 2, "cuda": "12.6", "nccl": "2.27.3"}


def gpu(index: int, **changes: object) -> dict[str, object]:
    return {
        "index": str(index),
        "uuid": f"GPU-{index}",
        "name": "H100",
        "driver": "550.54",
        "memory_mib": 81559,
        "used_mib": 3,
        "ecc_errors": 0,
        "mode": "Default",
        **changes,
    }


def host(*gpus: dict[str, object], visible: str | None = None, **torch: object) -> devices.Seen:
    return devices.Seen(list(gpus), visible, TORCH | torch, None)


FINE = host(gpu(0), gpu(1))


def judged(b: devices.Seen) -> Finding:
    """The one finding when the second host is so and the first is fine."""
    (found,) = devices.judge({"a": FINE, "b": b}, TWO)
    assert found.where == "b"
    return found


def test_devices_as_they_should_be() -> None:
    assert not list(devices.judge({"a": FINE, "b": FINE}, TWO))
    none = devices.Seen([], None, None, None)
    assert not list(devices.judge({"a": none, "b": none}, TWO))


def test_more_slots_than_devices() -> None:
    found = judged(host(gpu(0), count=1))
    assert (found.level, found.what) == ("fault", "2 slots for 1 devices")
    assert found.fix == "write `b slots=1` in the hostfile"


def test_devices_hidden_by_a_variable() -> None:
    found = judged(host(gpu(0), gpu(1), visible="1", count=1))
    assert found.what == "2 slots for 1 devices, CUDA_VISIBLE_DEVICES=1 hides others"
    assert "unset CUDA_VISIBLE_DEVICES" in found.fix
    assert not list(devices.judge({"a": FINE, "b": host(gpu(0), gpu(1), visible="GPU-1,0")}, TWO))
    hidden = judged(host(gpu(0), gpu(1), visible="0,-1,1", count=1))
    assert hidden.what.startswith("2 slots for 1 devices")


def test_a_device_in_use() -> None:
    found = judged(host(gpu(0), gpu(1, used_mib=40000)))
    assert (found.level, found.what) == ("fault", "GPU 1 has 40000 of 81559 MiB in use")
    assert "nvidia-smi --id=1 --query-compute-apps=pid" in found.fix


def test_a_device_with_broken_memory() -> None:
    found = judged(host(gpu(0, ecc_errors=2), gpu(1)))
    assert found.what == "GPU 0 has 2 uncorrected memory errors"
    assert "--gpu-reset" in found.fix


def test_a_device_that_refuses() -> None:
    found = judged(host(gpu(0, mode="Prohibited"), gpu(1)))
    assert "`nvidia-smi --id=0 --compute-mode=DEFAULT`" in found.fix


def test_a_host_without_devices_among_others() -> None:
    assert "no GPU driver, other hosts have" in judged(devices.Seen([], None, None, None)).what


def test_other_drivers_and_libraries() -> None:
    found = judged(host(gpu(0, driver="535.1"), gpu(1, driver="535.1")))
    assert (found.level, found.what) == ("warning", "its GPU driver is 535.1, elsewhere 550.54")
    found = judged(host(gpu(0), gpu(1), nccl="2.19.3"))
    assert (found.level, found.what) == ("fault", "torch there has NCCL 2.19.3, elsewhere 2.27.3")


def test_other_user_ids() -> None:
    one, other = user.Seen("mill", 1000, 1000), user.Seen("mill", 1001, 1000)
    assert not list(user.judge({"a": one, "b": one}, TWO))
    (found,) = user.judge({"a": one, "b": other}, TWO)
    assert (found.where, found.what) == (
        "b",
        "mill has user and group id 1001:1000, elsewhere 1000:1000",
    )
    assert "`usermod -u 1000 -g 1000 mill` on it" in found.fix


def test_little_locked_memory_under_infiniband() -> None:
    small = limits.Seen(65536, -1, 65536, True)
    (found,) = limits.judge({"a": small}, TWO)
    assert found.what.startswith("a process may lock 64 KiB of memory (`ulimit -l`)")
    assert "`* - memlock unlimited`" in found.fix
    assert not list(limits.judge({"a": limits.Seen(65536, -1, -1, True)}, TWO))
    assert not list(limits.judge({"a": limits.Seen(65536, -1, 65536, False)}, TWO))


def test_devices_named_differently_on_hosts() -> None:
    a, b = variables.Seen({}, []), variables.Seen({"CUDA_VISIBLE_DEVICES": "0"}, [])
    (found,) = variables.judge({"a": a, "b": b}, TWO)
    assert found.what == "CUDA_VISIBLE_DEVICES is 0, elsewhere not set"


def test_threads_bound_to_the_same_cores() -> None:
    bound = variables.Seen({"OMP_PROC_BIND": "true"}, [])
    (found,) = variables.judge({"a": bound}, TWO)
    assert found.what == "OMP_PROC_BIND=true binds the threads of all ranks to the same cores"
    assert not list(variables.judge({"a": bound}, Plan((Host("a", 1),))))


def test_one_machine_under_two_names() -> None:
    same = machines.Seen("boot net")
    (found,) = machines.judge({"a": same, "b": same}, TWO)
    assert found.what.startswith("it is the same machine as a")
    assert found.fix.endswith("for all ranks of the machine: 4")
    assert not list(machines.judge({"a": same, "b": machines.Seen("other")}, TWO))


def test_the_host_that_is_slow_with_all_its_neighbours() -> None:
    plan = Plan(tuple(map(Host, "abcd")), "ssh")
    pairs = {
        "a": {"b": 0.01, "d": 1.0},
        "b": {"a": 0.01, "c": 0.01},
        "c": {"b": 0.01, "d": 1.0},
        "d": {"c": 1.0, "a": 1.0},
    }
    seen = {host: bandwidth.Seen(0.02, "gloo", None, found) for host, found in pairs.items()}
    (found,) = bandwidth.judge(seen, plan)
    assert (found.level, found.where) == ("warning", "b")
    assert "moves 0.020 GB/s over all hosts (gloo; at least 0.1 is usual)" in found.what
    even = {
        host: bandwidth.Seen(0.02, "gloo", None, dict.fromkeys(pairs[host], 0.02)) for host in seen
    }
    assert [found.where for found in bandwidth.judge(even, plan)] == ["all hosts"]
    fast = {host: bandwidth.Seen(0.5, "gloo") for host in seen}
    assert not list(bandwidth.judge(fast, plan))


def test_rounds_of_pairs_are_disjoint() -> None:
    for count in range(3, 8):
        hosts = [f"h{number}" for number in range(count)]
        met: dict[str, set[str]] = {host: set() for host in hosts}
        for groups in bandwidth.rounds(hosts):
            members = [host for group in groups for host in group]
            assert len(members) == len(set(members))
            for one, other in groups:
                met[one].add(other)
                met[other].add(one)
        assert all(len(others) == 2 for others in met.values())


def test_settings_of_slurm() -> None:
    text = "JobRequeue              = 0\nKillWait                = 30 sec\nX = a=b\n"
    assert slurm.settings(text) == {"JobRequeue": "0", "KillWait": "30 sec", "X": "a=b"}
    (found,) = slurm.of_settings(slurm.settings(text))
    assert found.what.startswith("JobRequeue=0")
    assert "`--requeue`" in found.fix


def test_limits_of_slurm() -> None:
    assert slurm.minutes("01:00:00") == 60
    assert slurm.minutes("2-01:30:00") == 2970
    assert slurm.minutes("UNLIMITED") is None
    assert slurm.GPUS.findall("gpu:h100:8(S:0-1),gpu:2") == ["8", "2"]


def test_the_usual_value() -> None:
    assert odd_ones({"a": 1, "b": 2, "c": 2}) == (2, {"a": 1})
    assert odd_ones({"a": 1, "b": 2}) == (1, {"b": 2})
