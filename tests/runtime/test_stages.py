"""Plans: when a stage is done, what it prints, and which stages a recipe asks for."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from runtime import provenance, stages
from runtime.command import parse, print_plan
from runtime.stages import Plan


def plan(folder: Path, inputs: str = "xxh3:1", **rest: object) -> Plan:
    return Plan("pretrain", folder, inputs, **rest)  # type: ignore[arg-type]


def test_done_means_a_manifest_of_exactly_these_inputs(tmp_path: Path) -> None:
    assert not plan(tmp_path).is_done
    provenance.write_json(tmp_path / stages.MANIFEST, {"inputs": "xxh3:1"})
    assert plan(tmp_path).is_done
    assert not plan(tmp_path, inputs="xxh3:2").is_done
    assert not plan(tmp_path, pending="waits for data_prep").is_done
    assert not plan(tmp_path / "absent").is_done


def test_a_plan_of_parts_is_done_when_all_parts_are(tmp_path: Path) -> None:
    parts = tuple(plan(tmp_path / name) for name in ("a", "b"))
    whole = plan(tmp_path, parts=parts)
    (tmp_path / "a").mkdir()
    provenance.write_json(tmp_path / "a" / stages.MANIFEST, {"inputs": "xxh3:1"})
    assert not whole.is_done
    (tmp_path / "b").mkdir()
    provenance.write_json(tmp_path / "b" / stages.MANIFEST, {"inputs": "xxh3:1"})
    assert whole.is_done


def test_folders_of_the_stages() -> None:
    found = [stages.folder(Path("out"), stage).as_posix() for stage in stages.STAGES]
    assert found == ["out/data", "out/pretrain", "out/finetune"]


def test_a_stage_is_wanted_when_its_table_is_there() -> None:
    recipe = SimpleNamespace(sources={"a": 1}, model=None, tasks={})
    assert [stages.is_wanted(stage, recipe) for stage in stages.STAGES] == [True, False, False]


def test_the_plan_is_printed_for_people(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    part = plan(tmp_path / "ner", pending="waits for pretrain")
    print_plan(plan(tmp_path, lines=["tokens  1,000"], parts=(part,)))
    assert capsys.readouterr().out.splitlines() == [
        "pretrain: to do",
        f"  folder  {tmp_path}",
        "  tokens  1,000",
        "pretrain: waits for pretrain",
        f"  folder  {tmp_path / 'ner'}",
    ]


def test_the_command_line_of_a_stage() -> None:
    found = parse("data_prep", "words", ["a.toml", "train.steps=3", 'name="x y"', "--dry-run"])
    assert found.recipe == Path("a.toml")
    assert found.overrides == ("train.steps=3", 'name="x y"')
    assert found.dry_run
    assert not parse("data_prep", "words", ["a.toml"]).dry_run


def test_a_flag_that_does_not_exist_ends_with_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parse("data_prep", "words", ["a.toml", "--fast"])
    assert caught.value.code == 2
    assert "--fast" in capsys.readouterr().err
