"""Work directories in a bucket: what is there after a push, a broken one, a kill, and beside another run."""

import shutil
import sys

import pytest
from fake_bucket import Cloud, Objects
from small_runs import QUICK, lines

from onebnet_jax import main
from onebnet_jax.commands import compare
from onebnet_jax.errors import Interrupted, Unavailable, UserError
from onebnet_jax.runs import bucket, history, mirror, trained

ADDRESS = "gs://bucket/runs/a"


@pytest.fixture
def cloud(monkeypatch):
    """A bucket; only what asks for a push makes one, and the last is tried once."""
    cloud = Cloud()
    monkeypatch.setattr(bucket, "Objects", cloud.objects)
    monkeypatch.setattr(mirror, "EVERY_SECONDS", 1000.0)
    monkeypatch.setattr(mirror, "PATIENCE_SECONDS", -1.0)
    return cloud


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """machine(name): from here on this process is on the machine of that name, whose caches are its own."""
    return lambda name: monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / name))


def write(folder, **files):
    for name, text in files.items():
        path = folder / name.replace("__", "/").replace("_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def contents(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_text() for path in sorted(folder.rglob("*")) if path.is_file()
    }


def train(**files):
    with mirror.mirrored(ADDRESS) as (folder, _):
        write(folder, **files)
    return contents(folder)


def there():
    with bucket.copied(ADDRESS, new=True) as folder:
        return contents(folder)


def test_another_machine_goes_on_with_what_is_there(cloud, machine):
    machine("first")
    first = train(config_json="{}", train__metrics_jsonl="1\n", train__checkpoints__last__1__a="one")
    assert len(first) == 3 and there() == first
    machine("second")
    with mirror.mirrored(ADDRESS) as (folder, overtaken):
        assert contents(folder) == first and not overtaken()
        shutil.rmtree(folder / "train/checkpoints/last/1")
        write(folder, train__checkpoints__last__2__a="two", train__checkpoints__last__3_orbax_checkpoint_tmp__a="")
        write(folder, lock="", config_tmp="")
        (folder / "train/checkpoints/last/3.orbax.checkpoint.tmp").rename(folder / "3.orbax-checkpoint-tmp")
    assert there().keys() == {"config.json", "train/metrics.jsonl", "train/checkpoints/last/2/a"}
    assert {name.removeprefix(f"{ADDRESS}/") for name in cloud.held} == {"pushed.json", *there()}


def test_of_a_push_that_broke_off_nothing_is_there(cloud, machine, capsys):
    machine("first")
    before = train(config_json="{}", train__checkpoints__last__1__a="one", train__checkpoints__last__1__b="one")
    with pytest.raises(Unavailable, match="cannot be reached.*what gs://bucket/runs/a lacks is in .*first"):  # noqa: SIM117
        with mirror.mirrored(ADDRESS) as (folder, _):
            cloud.breaks_after = 1
            shutil.rmtree(folder / "train/checkpoints/last/1")
            write(folder, train__checkpoints__last__2__a="two", train__checkpoints__last__2__b="two")
    cloud.unreachable, cloud.breaks_after = False, None
    assert sum("last/2" in name for name in cloud.held) == 1 and there() == before
    kept = contents(folder)
    machine("second")
    assert train(train__checkpoints__last__3__a="three") == before | {"train/checkpoints/last/3/a": "three"}
    assert not any("last/2" in name for name in cloud.held)
    machine("first")  # which the second has gone on without
    assert train().keys() == {*before, "train/checkpoints/last/3/a"}
    (aside,) = folder.parent.glob("run-*")
    assert contents(aside) == kept and str(aside) in capsys.readouterr().err


def test_what_never_came_there_goes_there_by_the_next_command(cloud, machine, capsys):
    machine("first")
    with pytest.raises(Unavailable), mirror.mirrored(ADDRESS) as (folder, _):
        cloud.unreachable = True
        write(folder, config_json="{}")
    cloud.unreachable = False
    assert there() == {}
    assert train() == {"config.json": "{}"} == there()
    assert "holds what never reached" in capsys.readouterr().out
    machine("second")
    assert train(config_json="2") == there()
    machine("first")  # all of it had come there, so nothing has to be kept
    assert train() == {"config.json": "2"} and not [*folder.parent.glob("run-*")]


def test_of_two_runs_the_later_goes_on_and_the_earlier_stops(cloud, machine):
    machine("first")
    with pytest.raises(Unavailable, match="was taken over by process .*which goes on there; what this one had is in "):  # noqa: SIM117
        with mirror.mirrored(ADDRESS) as (folder, _):
            with pytest.raises(Unavailable, match="in use by another process on this machine"):
                mirror.Mirror(ADDRESS)
            machine("second")
            later = train(config_json="later")
            write(folder, config_json="earlier")
            raise Interrupted("as it is told to stop")
    assert there() == later


def test_how_a_run_ended_stays_what_it_was(cloud, machine, capsys):
    machine("first")
    for error in (Interrupted("at step 3"), UserError("not finite")):
        with pytest.raises(type(error), match=str(error)), mirror.mirrored(ADDRESS) as (folder, _):
            write(folder, config_json=str(error))
            raise error
        assert there() == {"config.json": str(error)}
    with pytest.raises(UserError, match="not finite"), mirror.mirrored(ADDRESS) as (folder, _):
        write(folder, config_json="more")
        cloud.unreachable = True
        raise error
    assert f"note: gs://bucket/run cannot be reached: no network; mend it; what {ADDRESS}" in capsys.readouterr().err


@pytest.mark.parametrize("said", [None, UserError("timeout.")])
def test_a_push_whose_answer_was_lost_is_a_push(said, cloud, machine, monkeypatch):
    machine("first")
    once, calls = Objects.write, []

    def lost(self, *arguments):
        calls.append(once(self, *arguments))
        if said and len(calls) == 1:
            raise said
        return calls[-1] if said else once(self, *arguments)  # as where a request is tried again

    monkeypatch.setattr(mirror, "PATIENCE_SECONDS", 10.0)
    with mirror.mirrored(ADDRESS) as (folder, overtaken):
        write(folder, config_json="{}")
        monkeypatch.setattr(Objects, "write", lost)
    assert there() == {"config.json": "{}"} and not overtaken()


@pytest.mark.parametrize("content", ["{", "[]", '{"push": "a", "files": ["../outside"]}', '{"push": 1, "files": []}'])
def test_another_pushed_json_is_refused(content, cloud, machine):
    machine("first")
    cloud.objects(ADDRESS).write("pushed.json", content.encode(), 0)
    for attempt in (there, train):
        with pytest.raises(UserError, match="pushed.json there is not what a training wrote"):
            attempt()


def test_a_run_copied_there_by_hand_is_one(cloud, machine):
    cloud.objects(ADDRESS).write("notes.txt", b"", 0)
    machine("first")
    assert there() == {}
    with pytest.raises(UserError, match=f"{ADDRESS} is not the work directory of a run"):
        trained.load(ADDRESS)
    cloud.objects(ADDRESS).write("config.json", b"{}", 0)
    assert train(more="") == {"config.json": "{}", "notes.txt": "", "more": ""} == there()


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "google.cloud.storage", None)
    with pytest.raises(UserError, match=f"{ADDRESS} cannot be used: google-cloud-storage is missing; pip install"):
        trained.load(ADDRESS)


@pytest.mark.slow
@pytest.mark.usefixtures("tiny")
def test_training_goes_on_from_a_bucket_as_from_a_folder(cloud, machine, tmp_path, capsys):
    def command(epochs, folder):
        fields = [f"--config.{name}={value}" for name, value in (QUICK | {"train.epochs": epochs}).items()]
        return ["--config=configs/quickstart.py", f"--workdir={folder}", "--change-config", *fields]

    main.main(command(2, tmp_path / "plain"))
    for epochs in (1, 2):
        machine(f"of epoch {epochs}")
        main.main(command(epochs, ADDRESS))
    assert "resumed from the checkpoint of step 8" in capsys.readouterr().out
    with bucket.copied(ADDRESS) as folder:
        assert lines(folder / "train") == lines(tmp_path / "plain" / "train")
    assert trained.load(ADDRESS).origin == trained.load(tmp_path / "plain").origin | {"workdir": ADDRESS}
    assert history.read([ADDRESS])[0].name == "a"
    main.main(["--mode=eval", f"--workdir={ADDRESS}"])
    compare.main([ADDRESS, str(tmp_path / "plain")])
    main.main([*command(1, tmp_path / "begun"), f"--config.init={ADDRESS}"])
    assert f"init='{ADDRESS}': " in capsys.readouterr().out
