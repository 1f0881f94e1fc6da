"""What pyproject.toml cannot say: the kernels for training on a CPU are compiled while the package is built."""

import pathlib
import sys

from setuptools import Distribution, setup
from setuptools.command.build_py import build_py

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from onebnet_jax.native import build  # noqa: E402


class BuildWithKernels(build_py):
    """Adds the library for this architecture; without a compiler the package works, but trains more slowly."""

    def run(self):
        super().run()
        folder = pathlib.Path(self.build_lib, "onebnet_jax", "native", "lib")
        build.folders = lambda: [folder]
        try:
            build.library(build.headers())
        except build.BuildError as error:
            print(f"Built without the kernels for training on a CPU: {error}.", file=sys.stderr)


class ForOnePlatform(Distribution):
    def has_ext_modules(self):
        return True


setup(cmdclass={"build_py": BuildWithKernels}, distclass=ForOnePlatform)
