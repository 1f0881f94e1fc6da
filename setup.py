"""What pyproject.toml cannot say: training's kernels and the native engine are compiled while the package is built."""

import pathlib
import sys

from setuptools import Distribution, setup
from setuptools.command.build_py import build_py

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from onebnet_jax.native import build, runtime  # noqa: E402


class BuildWithKernels(build_py):
    """Adds the libraries for this architecture; without a compiler the package works, but not the engine, and trains
    more slowly."""

    def run(self):
        super().run()
        folder = pathlib.Path(self.build_lib, "onebnet_jax", "native", "lib")
        build.folders = lambda: [folder]
        for what, make in (
            ("the kernels for training on a CPU", lambda: build.library(build.headers())),
            ("the native engine", runtime.built),
        ):
            try:
                make()
            except build.BuildError as error:
                print(f"Built without {what}: {error}.", file=sys.stderr)


class ForOnePlatform(Distribution):
    def has_ext_modules(self):
        return True


setup(cmdclass={"build_py": BuildWithKernels}, distclass=ForOnePlatform)
