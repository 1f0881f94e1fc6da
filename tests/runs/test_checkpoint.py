"""Checkpoints on disk: which are kept, what is read back, and what a killed save leaves behind."""

import random
import shutil

import jax
import numpy as np
import pytest

from onebnet_jax.errors import UserError
from onebnet_jax.runs import checkpoint
from onebnet_jax.runs.checkpoint import BEST, LAST, Checkpoints

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # of reads Orbax gives up
TMP_SUFFIX = ".orbax-checkpoint-tmp"  # of Orbax's folders of unfinished checkpoints


def tree(step):
    rng = np.random.default_rng(step)
    return {
        "params": {"kernel": rng.normal(size=(3, 4)).astype(np.float32)},
        "batch_stats": {"mean": rng.normal(size=4).astype(np.float32)},
        "step": np.int32(step),
    }


def metadata(step):
    """As of a run's `last` checkpoints."""
    best = {"epoch": 1, "loss": 0.617537841796875, "top1": 83.48, "top5": 99.34}
    return {"best": best, "result": best | {"epoch": step, "top1": step / 3}}


def save(stage, name, *saved, of=tree):
    checkpoints = Checkpoints(stage)
    for step in saved:
        checkpoints.save(name, step, of(step), metadata(step))
    checkpoints.close()


def restore(stage, name, like=None):
    checkpoints = Checkpoints(stage)
    result = checkpoints.restore(name, like)
    checkpoints.close()
    return result


def folders(stage, name):
    return sorted(path.name for path in (stage / "checkpoints" / name).iterdir())


def assert_whole(step, restored, info):
    assert info == metadata(step) and jax.tree.structure(restored) == jax.tree.structure(tree(step))
    for a, b in zip(jax.tree.leaves(restored), jax.tree.leaves(tree(step))):
        assert (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes())


def snapshot(folder):
    return {path.relative_to(folder): path.stat().st_mtime_ns for path in folder.rglob("*")}


def test_two_last_and_one_best_are_kept_side_by_side(tmp_path):
    save(tmp_path, LAST, 2, 4, 6, 8)
    save(tmp_path, BEST, 2, 6)
    assert folders(tmp_path, LAST) == ["6", "8"] and folders(tmp_path, BEST) == ["6"]


@pytest.mark.parametrize("like", [None, tree(0)])
def test_what_is_saved_comes_back_to_the_bit(tmp_path, like):
    save(tmp_path, LAST, 5)
    for found in (restore(tmp_path, LAST, like), checkpoint.read(tmp_path, LAST)):
        assert found[0] == 5
        assert_whole(*found)


def test_values_are_those_of_the_moment_of_saving(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    values = {"x": np.zeros(1000, np.float32)}
    checkpoints.save(LAST, 1, values, {})
    values["x"] += 1  # while it may still be written
    checkpoints.close()
    np.testing.assert_array_equal(restore(tmp_path, LAST)[1]["x"], 0)


def test_a_step_that_is_there_already_is_left_as_it_is(tmp_path):
    save(tmp_path, LAST, 3)
    before = snapshot(tmp_path / "checkpoints" / LAST / "3")
    save(tmp_path, LAST, 3, of=lambda _: tree(99))
    assert snapshot(tmp_path / "checkpoints" / LAST / "3") == before


@pytest.mark.parametrize("change", ["shape", "missing", "extra"])
def test_a_tree_of_another_network_is_not_restored(tmp_path, change):
    save(tmp_path, LAST, 5)
    like = tree(0)
    if change == "shape":
        like["params"]["kernel"] = np.zeros((4, 4), np.float32)
    elif change == "missing":
        del like["batch_stats"]
    else:
        like["params"]["bias"] = np.zeros(4, np.float32)
    with pytest.raises(UserError, match="None of the checkpoints"):
        restore(tmp_path, LAST, like)


def test_the_remains_of_a_killed_save_are_ignored_and_cleared_away(tmp_path):
    save(tmp_path, LAST, 4, 6)
    last = tmp_path / "checkpoints" / LAST
    remains = last / f"8{TMP_SUFFIX}"
    shutil.copytree(last / "6", remains)
    for path in list(remains.rglob("*"))[::2]:
        if path.is_file():
            path.unlink()
    assert restore(tmp_path, LAST)[0] == 6
    save(tmp_path, LAST, 8)
    assert folders(tmp_path, LAST) == ["6", "8"]
    np.testing.assert_array_equal(restore(tmp_path, LAST)[1]["params"]["kernel"], tree(8)["params"]["kernel"])


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip_a_bit(path, offset=None):
    content = bytearray(path.read_bytes())
    content[len(content) // 2 if offset is None else offset] ^= 4
    path.write_bytes(bytes(content))


def files(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file() and path.stat().st_size)


@pytest.mark.parametrize("harm", [cut, flip_a_bit, lambda path: path.unlink()], ids=["cut", "flipped bit", "removed"])
def test_a_checkpoint_that_is_not_whole_is_never_taken_for_one(tmp_path, tmp_path_factory, harm):
    """Whichever file of the newest is harmed: either that does not matter, or the one before is read instead."""
    save(tmp_path, LAST, 2, 4)
    newest = tmp_path / "checkpoints" / "last" / "4"
    fell_back = 0
    for path in files(newest):
        copy = tmp_path_factory.mktemp("copy")
        shutil.copytree(tmp_path, copy, dirs_exist_ok=True)
        harm(copy / path.relative_to(tmp_path))
        step, restored, info = restore(copy, LAST, tree(0))
        assert step in (2, 4)
        assert_whole(step, restored, info)
        fell_back += step == 2
        assert len(list((copy / "checkpoints").glob("broken/last-4-*"))) == (step == 2)
        save(copy, LAST, 4)  # as the run that goes on does
        assert restore(copy, LAST, tree(0))[0] == 4
    assert fell_back >= 3


def test_no_flipped_bit_goes_unnoticed(tmp_path):
    """Of the metadata, which hold what `best` is compared with, and of every other file."""
    save(tmp_path, LAST, 2, 4)
    newest, chance = tmp_path / "checkpoints" / "last" / "4", random.Random(0)
    for path in files(newest):
        content = path.read_bytes()
        of_metadata = path == newest / "info" / "metadata"
        for offset in range(0, len(content), 5) if of_metadata else chance.sample(range(len(content)), 4):
            flip_a_bit(path, offset)
            found = checkpoint.read(tmp_path, LAST)
            assert found[0] in ((2,) if of_metadata else (2, 4))
            assert_whole(*found)
            path.write_bytes(content)


def test_checkpoints_of_which_none_is_whole_are_an_error_and_stay(tmp_path):
    save(tmp_path, LAST, 2, 4)
    for path in files(tmp_path / "checkpoints" / "last"):
        cut(path)
    before = snapshot(tmp_path)
    with pytest.raises(UserError, match="None of the checkpoints in .*last can be read"):
        restore(tmp_path, LAST, tree(0))
    assert snapshot(tmp_path) == before
