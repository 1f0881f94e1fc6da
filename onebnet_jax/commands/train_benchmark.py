"""Training speed and memory: images/s, the share of this machine's matrix-product rate, and the peak of memory.

Each round times matrix products and some training steps of each config in turn, so that a machine whose speed drifts
does not favour either; medians are printed. The steps are those of a config's last stage with its teacher, on random
images; a folder of images that data.dir does not name has ten classes. The products are of the config's type, on an
accelerator of float32 and bfloat16, at JAX's default precision: on GPUs that have it, TF32 in place of float32, as in
training.
"""

import resource
from statistics import median

from onebnet_jax import tables
from onebnet_jax.commands import arguments
from onebnet_jax.errors import cli

EXAMPLES = """examples:
  onebnet train_benchmark fashionmnist_ds32_64 cifar10_typeII
  onebnet train_benchmark cifar10_typeII --config.train.batch_size=128 --account
"""
GEMM_SIZES = {"cpu": 2048, "accelerator": 8192}  # the larger one keeps all of a large accelerator busy


def main(argv: list[str]) -> None:
    parser = arguments.parser("train_benchmark", __doc__, EXAMPLES)
    parser.add_argument("configs", nargs="+", metavar="CONFIG", help="a config, such as quickstart")
    parser.add_argument("--rounds", type=int, default=5, help="default 5")
    parser.add_argument("--account", action="store_true", help="also say where a step's time goes, on a CPU")
    args, overrides = parser.parse_known_args(argv)
    if args.rounds < 1:
        parser.error("--rounds must be at least 1")
    import jax  # not before: --help should not wait for it

    from onebnet_jax.runs import config
    from onebnet_jax.training import run, speed

    experiments = {path: config.experiment(config.load(path, overrides, assumed=10)) for path in args.configs}
    for experiment in experiments.values():
        run.check_batches(experiment)
    teachers = {path: run.load_teacher(experiment) for path, experiment in experiments.items()}
    trainers = {path: speed.Trainer(experiment, teachers[path]) for path, experiment in experiments.items()}
    memory = jax.local_devices()[0].memory_stats() or {}  # before the large matrices
    peak = memory.get("peak_bytes_in_use", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
    on_cpu = jax.default_backend() == "cpu"
    size = GEMM_SIZES["cpu" if on_cpu else "accelerator"]
    rounds = {path: [] for path in trainers}
    for _ in range(args.rounds):
        for path, trainer in trainers.items():
            dtypes = (experiments[path].dtype,) if on_cpu else ("float32", "bfloat16")
            gemms = {dtype: speed.gemm_flops_per_second(dtype, size) for dtype in dtypes}
            rounds[path].append((trainer.images_per_second(), gemms))
    print(f"{jax.local_device_count()} x {jax.devices()[0].device_kind}, jax {jax.__version__}, {args.rounds} rounds")
    for path, trainer in trainers.items():
        name = f"{path} {experiments[path].stages[-1].name} {experiments[path].dtype}"
        print(f"{name}: {report(trainer, rounds[path], jax.local_device_count())}")
    if args.account and on_cpu:
        for path, trainer in trainers.items():
            spent = trainer.account()
            rows = [
                [name, f"{1000 * time:.1f}", f"{100 * time / sum(spent.values()):.1f}"] for name, time in spent.items()
            ]
            tables.show(f"\n{path}", [["part of a step", "ms", "%"], *rows], "")
    print(f"peak memory of the process{' on the device' if memory else ''}: {peak / 2**20:.0f} MiB")


def report(trainer, rounds: list[tuple[float, dict[str, float]]], devices: int) -> str:
    """A trainer in words, given for each round images/s, and the FLOP/s of matrix products of each type."""
    parts = [f"{median(images for images, _ in rounds):.1f} images/s"]
    for dtype in rounds[0][1]:
        share = median(images * trainer.flops_per_image / (gemms[dtype] * devices) for images, gemms in rounds)
        rate = median(gemms[dtype] for _, gemms in rounds)
        parts.append(f"{100 * share:.1f} % of {rate / 1e9:.0f} GFLOP/s in {dtype}")
    parts.append(f"{trainer.flops_per_image / 1e6:.0f} MFLOP/image")
    parts.append(f"temporary memory {trainer.temporary_bytes / 2**20:.0f} MiB")
    return ", ".join([*parts, f"compiled in {trainer.compile_seconds:.0f} s"])


if __name__ == "__main__":
    cli(main)
