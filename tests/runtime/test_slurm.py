"""The table [slurm]: what it takes, and one clear error for each thing it does not."""

from typing import Any

import pytest
from pydantic import ValidationError

from runtime.slurm import SlurmJobs


def refusal(**table: Any) -> str:
    """The one error about a table."""
    with pytest.raises(ValidationError) as caught:
        SlurmJobs.model_validate(table)
    (error,) = caught.value.errors()
    return f"{'.'.join(map(str, error['loc']))}: {error['msg'].removeprefix('Value error, ')}"


def test_a_whole_table() -> None:
    table = SlurmJobs.model_validate(
        {
            "partition": "gpu,gpu-long",
            "account": "team_7",
            "qos": "high+",
            "constraint": "a100&ib",
            "nodes": 4,
            "gpus_per_node": 8,
            "gpu_type": "a100",
            "minutes": {"pretrain": 2880},
            "mail_user": "ann@example.org",
            "setup": ("module load cuda/12", "export NCCL_DEBUG='WARN'"),
            "container": {
                "kind": "pyxis",
                "image": "nvcr.io#nvidia/pytorch:24.01-py3",
                "mounts": ("/data", "/scratch/a b:/work:ro"),
            },
            "options": {"comment": "a 'b' $c", "hold": True, "nice": 100},
        }
    )
    assert table.num_ranks_per_node == 8


@pytest.mark.parametrize(
    ("table", "ranks"),
    [({}, 1), ({"gpus_per_node": 4}, 4), ({"ranks_per_node": 3}, 3)],
)
def test_one_rank_a_gpu(table: dict[str, int], ranks: int) -> None:
    assert SlurmJobs.model_validate(table).num_ranks_per_node == ranks
    assert "must be gpus_per_node (8): one rank a GPU" in refusal(gpus_per_node=8, ranks_per_node=4)


@pytest.mark.parametrize("constraint", ["a100", "a100&ib", "a|b", "[rack1|rack2]", "ib*4&x:y"])
def test_constraints(constraint: str) -> None:
    assert SlurmJobs(constraint=constraint).constraint == constraint


NAMES = ("partition", "cpu_partition", "account", "qos", "reservation", "constraint", "mail_user")


@pytest.mark.parametrize("field", [*NAMES, "gpu_type"])
@pytest.mark.parametrize(
    "value",
    ["", "-x", "a b", "a\nb", "a\n", "a;b", "$(x)", "a'b", "a\x00b", "a\\b", "a#b", "\ud800", "é"],
)
def test_names_hold_nothing_else(field: str, value: str) -> None:
    assert refusal(**{field: value}).startswith(f"{field}: is not ")


@pytest.mark.parametrize(
    "value", ["a\nb", "a\rb", "a\x00b", "a\tb", "a\x1b[0m", "a\u2028b", "\x85"]
)
def test_no_control_characters_anywhere(value: str) -> None:
    hidden = "another character that cannot be printed"
    assert hidden in refusal(setup=(value,))
    assert hidden in refusal(python=value)
    container = {"kind": "pyxis", "image": "a"}
    assert hidden in refusal(container={**container, "mounts": (f"/{value}",)})
    assert refusal(container={**container, "image": value}).startswith("container.image: ")
    with pytest.raises(ValidationError, match=hidden):
        SlurmJobs.model_validate({"options": {"comment": value}})


@pytest.mark.parametrize("mount", ["data", "/a:b", "/a,/b", "/a:/b:/c", "/a:/b:RW", ""])
def test_mounts_are_folders(mount: str) -> None:
    found = refusal(container={"kind": "apptainer", "image": "x.sif", "mounts": (mount,)})
    assert found.startswith("container.mounts.0: is not FOLDER or FOLDER:INSIDE[:ro]")


def test_options_that_are_ours_are_refused() -> None:
    assert "options.wrap is set by Textmill itself" in refusal(options={"wrap": "x"})
    assert "options.mem has a field of its own: memory_mb" in refusal(options={"mem": "1G"})
    for name in ("no_good", "Mem", "-x", "mem=1", "a b", ""):
        assert "is not the name of a long option of sbatch" in refusal(options={name: "x"})


def test_numbers_that_cannot_work() -> None:
    assert refusal(nodes=0).startswith("nodes: ")
    assert refusal(warn_seconds=70000).startswith("warn_seconds: ")
    assert refusal(requeues=-1).startswith("requeues: ")
    assert refusal(gpu_type="a100") == ": gpu_type is given and gpus_per_node is 0; set how many"
    assert (
        refusal(minutes={"pretrain": 2})
        == ": warn_seconds (120) must be less than minutes.pretrain (2 min = 120 s)"
    )
