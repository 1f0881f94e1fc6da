"""Which images are held out."""

import numpy as np
import pytest

from onebnet_jax.data import parts
from onebnet_jax.errors import UserError


@pytest.mark.parametrize("share", [0.1, 0.2, 0.5])
def test_by_name_about_a_share_is_held_out_and_of_few_one_at_least_and_not_all(share):
    names = [f"{index}.jpg" for index in range(4000)]
    held = parts.by_name(names, share, "test")
    assert held.mean() == pytest.approx(share, abs=0.03)
    assert held.tolist() != parts.by_name(names, share, "validation 0").tolist()
    for count in range(2, 40):
        for first in range(0, 400, 20):
            assert 0 < parts.by_name(names[first : first + count], share, "test").sum() < count
    assert not parts.by_name(names[:1], share, "test").any()
    spellings = [
        parts.by_name([f"{name}{index}" for index in range(50)], share, "test") for name in ("\u00e4", "a\u0308")
    ]
    assert spellings[0].tolist() == spellings[1].tolist()  # as Linux and macOS write them


def test_classes_and_splits_too_small_for_validation_are_told():
    with pytest.raises(UserError, match="data.validation=0.5 must be 0"):
        parts.for_validation(np.arange(5), 0.5, seed=0)
    for count, said in ((240, False), (100, True)):
        held, words = parts.for_validation(np.repeat([0, 1, 2], (count, 1, 1)), 0.5, seed=0)
        assert held.sum() == count / 2 and f"{count // 2} of" in words and "none of 2 classes" in words
        assert ("few to choose" in words) == said
