"""Opposites read from small files in WordNet's own format, and from the real ones."""

from pathlib import Path

import pytest

from finetune.augmentation.antonyms import Antonyms, files
from runtime.errors import DataError
from tests import debian

# wide is opposed to narrow; broad is similar to wide; thin(p) has two words, the second opposed.
LINES = {
    "wide": "{wide} 00 a 01 wide 0 003 ! {narrow} a 0101 & {broad} a 0000 + 00000000 n 0101 |  \n",
    "narrow": "{narrow} 00 a 01 narrow 0 001 ! {wide} a 0101 | x  \n",
    "broad": "{broad} 00 s 01 broad 0 001 & {wide} a 0000 | x  \n",
    "thin": "{thin} 00 a 02 thin(p) 0 slim 0 001 ! {wide} a 0201 | x  \n",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    licence = "  1 This software and database is provided\n"
    offsets: dict[str, str] = {}
    place = len(licence)
    for name, line in LINES.items():
        offsets[name] = f"{place:08d}"
        place += len(line.format(**dict.fromkeys(LINES, "00000000")))
    data = licence + "".join(line.format(**offsets) for line in LINES.values())
    index = licence + "".join(f"{name} a 1 1 ! 1 1 {at}  \n" for name, at in offsets.items())
    index += f"slim a 1 1 ! 1 1 {offsets['thin']}  \nwell_built a 1 0 1 0 {offsets['thin']}  \n"
    (tmp_path / "data.adj").write_text(data)
    (tmp_path / "index.adj").write_text(index)
    return tmp_path


def test_direct_and_similar_opposites(folder: Path) -> None:
    found = Antonyms(folder)
    assert found.of("wide") == ["narrow"]
    assert found.of("narrow") == ["wide"]
    assert found.of("broad") == ["narrow"]  # like wide
    assert found.of("slim") == ["wide"]
    assert found.of("thin") == []  # the antonym is of the other word of the line
    assert found.of("unknown") == []
    assert found.of("Wide") == []


def test_a_folder_without_wordnet(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="install Debian's wordnet-base, or set `wordnet`"):
        Antonyms(tmp_path)
    assert files(tmp_path) == [tmp_path / "index.adj", tmp_path / "data.adj"]


def test_the_real_wordnet() -> None:
    if not Path("/usr/share/wordnet/data.adj").is_file():
        debian.install_or_skip(["wordnet-base"])
    found = Antonyms(Path("/usr/share/wordnet"))
    assert found.of("good") == ["bad"]
    assert found.of("awful") == ["good"]
    assert found.of("physician") == []
