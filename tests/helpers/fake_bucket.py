"""Google Cloud Storage in memory, in place of `onebnet_jax.runs.gcs.Objects`."""

import itertools

from onebnet_jax.errors import UserError
from onebnet_jax.runs.gcs import Overtaken


class Cloud:
    """What holds all buckets: {"gs://bucket/dir/name": (generation, content)}; `Cloud().objects` stands for Objects.

    unreachable: whether every request fails. breaks_after: how many more objects can be written before it does.
    """

    def __init__(self):
        self.held, self.unreachable, self.breaks_after = {}, False, None
        self.count = itertools.count(1)

    def objects(self, address):
        return Objects(self, f"{address.rstrip('/')}/")

    def check(self, writing=False):
        if writing and self.breaks_after is not None:
            self.unreachable = self.breaks_after == 0
            self.breaks_after -= 1
        if self.unreachable:
            raise UserError("gs://bucket/run cannot be reached: no network; mend it.")


class Objects:
    def __init__(self, cloud, prefix):
        self.cloud, self.prefix = cloud, prefix
        cloud.check()

    def names(self):
        self.cloud.check()
        return [name.removeprefix(self.prefix) for name in self.cloud.held if name.startswith(self.prefix)]

    def read(self, name):
        self.cloud.check()
        return self.cloud.held.get(self.prefix + name, (0, b""))

    def write(self, name, content, generation):
        if self.read(name)[0] != generation:
            raise Overtaken
        self.cloud.check(writing=True)
        self.cloud.held[self.prefix + name] = (next(self.cloud.count), content)
        return self.read(name)[0]

    def get(self, names, folder):
        for name in names:
            if not (found := self.read(name))[0]:
                raise FileNotFoundError(name)
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(found[1])

    def put(self, names, folder):
        for name in names:
            content = (folder / name).read_bytes()
            self.cloud.check(writing=True)
            self.cloud.held[self.prefix + name] = (next(self.cloud.count), content)

    def delete(self, names):
        self.cloud.check()
        for name in names:
            self.cloud.held.pop(self.prefix + name, None)
