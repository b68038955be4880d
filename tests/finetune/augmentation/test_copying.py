"""Examples as they are shown; what is copied at all is in test_autoaugment.py."""

from finetune.augmentation.copying import cut


def test_short_examples_are_whole() -> None:
    assert cut("a good film", "a bad film") == ("a good film", "a bad film")


def test_long_examples_show_the_first_difference() -> None:
    first, second = cut("x" * 1000 + "y" + "z" * 1000, "x" * 1000 + "w")
    assert first == "... " + "x" * 60 + "y" + "z" * 239 + " ..."
    assert second == "... " + "x" * 60 + "w"
