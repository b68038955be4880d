"""What there is, divided: by hand for machines, hostfiles and allocations."""

from collections.abc import Callable
from pathlib import Path

import pytest

from finetune.config import Recipe
from finetune.search import places
from finetune.search.places import Place, Seat, Step
from launch.hosts.nodes import Node
from runtime.errors import RecipeError

RecipeOf = Callable[..., Recipe]


def test_cores_are_divided() -> None:
    assert places.local_places(1, 2, [], 8) == [
        Place(0, "1 x 4 threads", 4, (Seat(None, None),)),
        Place(1, "1 x 4 threads", 4, (Seat(None, None),)),
    ]
    (only,) = places.local_places(2, 1, [], 8)
    assert (only.threads, len(only.seats)) == (4, 2)


def test_ranks_are_divided_over_gpus() -> None:
    found = places.local_places(4, 2, ["0", "2", "4", "6"], 16)
    assert [place.name for place in found] == ["GPU 0,2", "GPU 4,6"]
    assert found[1].seats == (Seat(None, "4"), Seat(None, "6"))
    one_each = places.local_places(1, 3, ["0", "1", "2", "3"], 16)
    assert [place.seats[0].device for place in one_each] == ["0", "1", "2"]


def test_a_share_that_cannot_be_whole_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"parallel = 3 with 1 rank\(s\) a trial needs 3 GPUs"):
        places.local_places(1, 3, ["0", "1"], 16)
    with pytest.raises(RecipeError, match=r"parallel = 3 .* needs 3 cores; there are 2: lower"):
        places.local_places(1, 3, [], 2)


def test_gpus_are_those_this_process_may_use() -> None:
    assert places.devices({"CUDA_VISIBLE_DEVICES": "3,GPU-ab"}) == ["3", "GPU-ab"]
    assert places.devices({"CUDA_VISIBLE_DEVICES": ""}) == []
    assert places.devices({"CUDA_VISIBLE_DEVICES": "0", "DS_ACCELERATOR": "cpu"}) == []


def test_slots_of_a_hostfile_are_divided_in_order(tmp_path: Path) -> None:
    path = tmp_path / "hostfile"
    path.write_text("# ours\nnode-01 slots=4\n\nnode-02 slots=3  # one is broken\n")
    found = places.host_places(path, 2, {})
    assert [place.name for place in found] == [
        "node-01:0 node-01:1 node-01:2",
        "node-01:3 node-02:0 node-02:1",
    ]
    assert len(places.host_places(path, 7, {})) == 7
    with pytest.raises(RecipeError, match=r"parallel = 8 needs as many slots; .* has 7"):
        places.host_places(path, 8, {})


def test_seats_are_grouped_by_machine() -> None:
    seats = (Seat("node-01", "3"), Seat("node-02", "0"), Seat("node-02", "1"))
    assert Place(1, "hosts", 8, seats).nodes == (
        Node("node-01", 0, 1, ("3",)),
        Node("node-02", 1, 2, ("0", "1")),
    )
    assert Place(0, "here", 1, (Seat(None, None),) * 2).nodes == (Node(None, 0, 2),)


def test_an_allocation_is_divided() -> None:
    given = {
        "SLURM_JOB_NODELIST": "n[1-2]", "SLURM_JOB_NUM_NODES": "2", "SLURM_NTASKS": "8",
        "SLURM_CPUS_PER_TASK": "6", "SLURM_GPUS_ON_NODE": "4",
    }  # fmt: skip
    four = places.slurm_places(given, 4)
    assert [place.number for place in four] == [0, 1, 2, 3]
    assert four[0].step == Step(nodes=1, tasks=2, cpus_per_task=6, gpus_per_node=2)
    assert four[0].threads == 6
    (whole,) = places.slurm_places(given, 1)
    assert whole.step == Step(nodes=2, tasks=8, cpus_per_task=6, gpus_per_node=4)
    third = places.slurm_places(given | {"SLURM_JOB_NUM_NODES": "4", "SLURM_NTASKS": "16"}, 3)
    assert third[0].step == Step(nodes=1, tasks=4, cpus_per_task=6, gpus_per_node=4)
    plain = places.slurm_places({"SLURM_JOB_NODELIST": "n1"}, 1)
    assert plain[0].step == Step(nodes=1, tasks=1, cpus_per_task=None, gpus_per_node=None)
    with pytest.raises(RecipeError, match="needs as many tasks; the allocation has 8"):
        places.slurm_places(given, 9)


def test_the_launcher_says_what_is_divided(recipe_of: RecipeOf, tmp_path: Path) -> None:
    path = tmp_path / "hosts"
    path.write_text("a slots=1\n")
    no_gpus = {"DS_ACCELERATOR": "cpu"}
    (here,) = places.of(recipe_of(), None, no_gpus)
    assert here.seats == (Seat(None, None),)
    named = recipe_of('launch.launcher="deepspeed"', f'launch.hostfile="{path}"')
    for found in (places.of(named, None, no_gpus), places.of(recipe_of(), path, no_gpus)):
        assert found[0].seats == (Seat("a", "0"),)
    with pytest.raises(RecipeError, match="must run inside an allocation"):
        places.of(recipe_of('launch.launcher="slurm"'), None, no_gpus)
