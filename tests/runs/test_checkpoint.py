"""Checkpoints on disk: which are kept, what is read back, and what a killed save leaves behind."""

import json
import pathlib
import random
import shutil

import jax
import numpy as np
import pytest

from onebnet_jax.errors import UserError
from onebnet_jax.runs import checkpoint, metrics
from onebnet_jax.runs import config as config_lib
from onebnet_jax.runs.checkpoint import BEST, LAST, Checkpoints

RESULTS = pathlib.Path(__file__).parents[2] / "results"
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


def save(workdir, name, *saved, stage="train"):
    checkpoints = Checkpoints(workdir / stage)
    for step in saved:
        checkpoints.save(name, step, tree(step), metadata(step))
    checkpoints.close()


def restore(workdir, name, like=None, stage="train"):
    checkpoints = Checkpoints(workdir / stage)
    result = checkpoints.restore(name, like)
    checkpoints.close()
    return result


def folders(workdir, name):
    return sorted(path.name for path in (workdir / "train" / "checkpoints" / name).iterdir())


def snapshot(folder):
    return {path.relative_to(folder): path.stat().st_mtime_ns for path in folder.rglob("*")}


@pytest.fixture
def workdir(tmp_path):
    config = config_lib.load("configs/quickstart.py")
    (tmp_path / "config.json").write_text(config.to_json())
    return tmp_path


def test_two_last_and_one_best_are_kept_side_by_side(workdir):
    save(workdir, LAST, 2, 4, 6, 8)
    save(workdir, BEST, 2, 6)
    assert folders(workdir, LAST) == ["6", "8"] and folders(workdir, BEST) == ["6"]


@pytest.mark.parametrize("like", [None, tree(0)])
def test_what_is_saved_comes_back_to_the_bit(workdir, like):
    save(workdir, LAST, 5)
    step, restored, info = restore(workdir, LAST, like)
    assert step == 5 and info == metadata(5)
    assert jax.tree.structure(restored) == jax.tree.structure(tree(5))
    for a, b in zip(jax.tree.leaves(restored), jax.tree.leaves(tree(5)), strict=True):
        assert a.dtype == b.dtype and a.tobytes() == b.tobytes()


def test_values_are_those_of_the_moment_of_saving(workdir):
    checkpoints = Checkpoints(workdir / "train")
    values = {"x": np.zeros(1000, np.float32)}
    checkpoints.save(LAST, 1, values, {})
    values["x"] += 1  # while it may still be written
    checkpoints.close()
    np.testing.assert_array_equal(restore(workdir, LAST)[1]["x"], 0)


def test_a_step_that_is_there_already_is_left_as_it_is(workdir):
    save(workdir, LAST, 3)
    before = snapshot(workdir / "train" / "checkpoints" / LAST / "3")
    checkpoints = Checkpoints(workdir / "train")
    checkpoints.save(LAST, 3, tree(99), {})
    checkpoints.close()
    assert snapshot(workdir / "train" / "checkpoints" / LAST / "3") == before


def test_nothing_saved_restores_nothing(workdir):
    assert restore(workdir, LAST) is None


@pytest.mark.parametrize("change", ["shape", "missing", "extra"])
def test_a_tree_of_another_network_is_not_restored(workdir, change):
    save(workdir, LAST, 5)
    like = tree(0)
    if change == "shape":
        like["params"]["kernel"] = np.zeros((4, 4), np.float32)
    elif change == "missing":
        del like["batch_stats"]
    else:
        like["params"]["bias"] = np.zeros(4, np.float32)
    with pytest.raises(ValueError):
        restore(workdir, LAST, like)


def test_the_remains_of_a_killed_save_are_ignored_and_cleared_away(workdir):
    save(workdir, LAST, 4, 6)
    last = workdir / "train" / "checkpoints" / LAST
    remains = last / f"8{TMP_SUFFIX}"
    shutil.copytree(last / "6", remains)
    for path in list(remains.rglob("*"))[::2]:
        if path.is_file():
            path.unlink()
    assert restore(workdir, LAST)[0] == 6
    save(workdir, LAST, 8)
    assert folders(workdir, LAST) == ["6", "8"]
    np.testing.assert_array_equal(restore(workdir, LAST)[1]["params"]["kernel"], tree(8)["params"]["kernel"])


def test_load_run_reads_best_or_last(workdir):
    save(workdir, LAST, 2, 9)
    save(workdir, BEST, 4)
    for which, step in ((BEST, 4), (LAST, 9)):
        run = checkpoint.load_run(workdir, which)
        assert run.stage == "train" and run.step == step and run.metrics == metadata(step)["result"]
        assert run.config == config_lib.load("configs/quickstart.py")
        assert run.structure.ds_1d == (32, 64) and run.binarization.estimator == run.config.model.estimator
        expected = {name: tree(step)[name] for name in ("params", "batch_stats")}
        jax.tree.map(np.testing.assert_array_equal, run.variables, expected)
    assert checkpoint.load_run(str(workdir)).step == 4


def test_load_run_reads_the_latest_stage_that_has_a_checkpoint(tmp_path):
    config = config_lib.load("configs/quickstart.py", ["--config.stages=('step1', 'step2')"])
    (tmp_path / "config.json").write_text(config.to_json())
    save(tmp_path, LAST, 2, stage="step1")
    save(tmp_path, BEST, 1, stage="step1")
    run = checkpoint.load_run(tmp_path)
    assert (run.stage, run.step) == ("step1", 1) and not run.binarization.weights and run.binarization.activations
    save(tmp_path, LAST, 3, stage="step2")
    assert checkpoint.load_run(tmp_path, BEST).stage == "step1"
    run = checkpoint.load_run(tmp_path, LAST)
    assert (run.stage, run.step) == ("step2", 3) and run.binarization.weights


def test_load_run_changes_nothing_on_disk(workdir):
    """So that a run in progress can be evaluated, a save in progress included, and one that came without `last`."""
    save(workdir, BEST, 4)
    shutil.rmtree(workdir / "train" / "checkpoints" / LAST)
    in_progress = workdir / "train" / "checkpoints" / BEST / f"8{TMP_SUFFIX}"
    shutil.copytree(workdir / "train" / "checkpoints" / BEST / "4", in_progress)
    before = snapshot(workdir)
    assert checkpoint.load_run(workdir, BEST).step == 4
    with pytest.raises(UserError):
        checkpoint.load_run(workdir, LAST)
    assert snapshot(workdir) == before


def test_load_run_names_what_is_missing(workdir, tmp_path):
    for which in (BEST, LAST):
        with pytest.raises(UserError, match=f"{workdir} has no '{which}' checkpoint yet"):
            checkpoint.load_run(workdir, which)
    Checkpoints(workdir / "train").close()
    with pytest.raises(UserError, match="has no 'best' checkpoint yet"):
        checkpoint.load_run(workdir)
    with pytest.raises(UserError, match="nowhere is not the work directory of a run"):
        checkpoint.load_run(tmp_path / "nowhere")


def assert_whole(step, restored, info):
    assert info == metadata(step) and jax.tree.structure(restored) == jax.tree.structure(tree(step))
    for a, b in zip(jax.tree.leaves(restored), jax.tree.leaves(tree(step))):
        assert (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes())


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip_a_bit(path, offset=None):
    content = bytearray(path.read_bytes())
    content[len(content) // 2 if offset is None else offset] ^= 4
    path.write_bytes(bytes(content))


def files(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file() and path.stat().st_size)


@pytest.mark.parametrize("harm", [cut, flip_a_bit, lambda path: path.unlink()], ids=["cut", "flipped bit", "removed"])
def test_a_checkpoint_that_is_not_whole_is_never_taken_for_one(workdir, tmp_path_factory, harm):
    """Whichever file of the newest is harmed: either that does not matter, or the one before is read instead."""
    save(workdir, LAST, 2, 4)
    newest = workdir / "train" / "checkpoints" / "last" / "4"
    fell_back = 0
    for path in files(newest):
        copy = tmp_path_factory.mktemp("copy")
        shutil.copytree(workdir, copy, dirs_exist_ok=True)
        harm(copy / path.relative_to(workdir))
        step, restored, info = restore(copy, LAST, tree(0))
        assert step in (2, 4)
        assert_whole(step, restored, info)
        fell_back += step == 2
        assert len(list((copy / "train" / "checkpoints").glob("broken/last-4-*"))) == (step == 2)
        save(copy, LAST, 4)  # as the run that goes on does
        assert restore(copy, LAST, tree(0))[0] == 4
    assert fell_back >= 3


def test_no_flipped_bit_goes_unnoticed(workdir):
    """Every second byte of the metadata, which hold what `best` is compared with, and some of every other file."""
    save(workdir, LAST, 2, 4)
    newest, chance = workdir / "train" / "checkpoints" / "last" / "4", random.Random(0)
    for path in files(newest):
        content = path.read_bytes()
        everywhere = path == newest / "info" / "metadata"
        for offset in range(0, len(content), 2) if everywhere else chance.sample(range(len(content)), 4):
            flip_a_bit(path, offset)
            run = checkpoint.load_run(workdir, LAST)
            assert run.step in ((2,) if everywhere else (2, 4))
            assert run.metrics == metadata(run.step)["result"]
            assert_whole(run.step, run.variables | {"step": np.int32(run.step)}, metadata(run.step))
            path.write_bytes(content)


@pytest.mark.parametrize("checksum", [None, checkpoint.digest(tree(4))], ids=["none", "of the arrays"])
def test_checkpoints_with_the_checksums_of_older_versions_are_read(workdir, checksum):
    save(workdir, LAST, 2, 4)
    path = workdir / "train" / "checkpoints" / "last" / "4" / "info" / "metadata"
    path.write_text(json.dumps(metadata(4) | ({checkpoint.DIGEST: checksum} if checksum else {})))
    assert_whole(*restore(workdir, LAST, tree(0)))
    assert restore(workdir, LAST)[0] == 4
    if checksum:
        path.write_text(json.dumps(metadata(4) | {checkpoint.DIGEST: checksum[::-1]}))
        assert restore(workdir, LAST)[0] == 2


@pytest.mark.parametrize("config", sorted(RESULTS.glob("*/config.json")), ids=lambda path: path.parent.name)
def test_the_results_kept_here_are_read(config):
    run = checkpoint.load_run(config.parent)
    measured = [line for line in metrics.read(config.parent / run.stage / "metrics.jsonl") if line["split"] == "test"]
    assert run.metrics["top1"] == max(line["top1"] for line in measured)


def test_reading_a_run_falls_back_without_changing_it(workdir, capsys):
    save(workdir, LAST, 2, 4)
    for path in files(workdir / "train" / "checkpoints" / "last" / "4" / "tree"):
        cut(path)
    before = snapshot(workdir)
    run = checkpoint.load_run(workdir, LAST)
    assert run.step == 2 and snapshot(workdir) == before
    assert "last/4 cannot be read" in capsys.readouterr().err


def test_checkpoints_of_which_none_is_whole_are_an_error_and_stay(workdir):
    save(workdir, LAST, 2, 4)
    for path in files(workdir / "train" / "checkpoints" / "last"):
        cut(path)
    before = snapshot(workdir)
    with pytest.raises(UserError, match="None of the checkpoints in .*last can be read"):
        restore(workdir, LAST, tree(0))
    assert snapshot(workdir) == before
