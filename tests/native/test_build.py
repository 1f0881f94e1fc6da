"""Finding a compiler, building once, and saying why there are no kernels."""

import os
import pathlib
import subprocess
import sys

import jax
import pytest

from onebnet_jax.native import build, library

needs_compiler = pytest.mark.skipif(not library.instruction_sets(), reason=library.reason() or "")


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """Two empty folders in place of those where libraries are kept."""
    both = [tmp_path / "one", tmp_path / "two"]
    monkeypatch.setattr(build, "folders", lambda: both)
    return both


def stand_in(monkeypatch):
    """Puts a compilation in place that takes no time; gives the list of those done."""
    done = []

    def compiled(command, entry, folder, flags=(), link=()):
        done.append(entry)
        (folder / "built").write_bytes(b"library")
        return folder / "built"

    monkeypatch.setattr(build, "build", compiled)
    monkeypatch.setattr(build, "compiler", lambda: ["c++"])
    return done


def test_built_once_and_again_after_a_change(folders, tmp_path, monkeypatch):
    done = stand_in(monkeypatch)
    first = build.library(jax.ffi.include_dir())
    assert build.library(jax.ffi.include_dir()) == first and first.parent == folders[0] and len(done) == 1
    assert [path.name for path in folders[0].iterdir()] == [first.name]  # nothing half written stays
    sources = tmp_path / "src"
    sources.mkdir()
    (sources / "train.cc").write_text("int x;")
    monkeypatch.setattr(build, "SOURCES", sources)
    assert build.library(jax.ffi.include_dir()) != first and len(done) == 2


def test_where_the_first_folder_cannot_be_written_the_second_serves(folders, monkeypatch):
    stand_in(monkeypatch)
    folders[0].write_text("a file, no folder")
    assert build.library(jax.ffi.include_dir()).parent == folders[1]
    folders[1].rename(folders[1].with_name("gone"))
    folders[1].write_text("another")
    with pytest.raises(build.BuildError, match="one.*two"):
        build.library(jax.ffi.include_dir())


@needs_compiler
def test_what_does_not_compile_is_a_sentence(tmp_path):
    source = tmp_path / "broken.cc"
    source.write_text("int f( {")
    with pytest.raises(build.BuildError, match="broken.cc"):
        build.build(build.compiler(), source, tmp_path, flags=["-O0"])


def test_without_a_compiler_there_are_no_kernels_and_no_crash(tmp_path):
    code = (
        "from onebnet_jax.native import build, library\n"
        f"build.folders = lambda: [__import__('pathlib').Path({str(tmp_path)!r})]\n"
        "print(library.available(), library.reason())"
    )
    env = {k: v for k, v in os.environ.items() if k not in ("CXX", library.VARIABLE)} | {"PATH": ""}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("False") and "g++" in done.stdout


@needs_compiler
def test_switched_off_or_held_to_what_is_not_there(monkeypatch):
    monkeypatch.setenv(library.VARIABLE, "0")
    assert not library.available() and library.VARIABLE in library.reason()
    monkeypatch.setenv(library.VARIABLE, "avx2")
    monkeypatch.setattr(library, "instruction_sets", lambda: ["plain"])
    assert not library.available() and "avx2" in library.reason()
    monkeypatch.setenv(library.VARIABLE, "")
    assert not library.available() and "AVX" in library.reason()


@pytest.mark.slow
@needs_compiler
@pytest.mark.parametrize("sanitizers", ["address,undefined", "thread"])
def test_sanitizers_find_nothing(sanitizers, tmp_path):
    flags = ["-O1", "-g", f"-fsanitize={sanitizers}", "-fno-sanitize-recover=all"]
    driver = pathlib.Path(__file__).with_name("driver.cc")
    program = build.build(build.compiler(), driver, tmp_path, flags, link=())
    done = subprocess.run([program], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert int(done.stdout.split()[0]) >= 100 * len(library.instruction_sets())
