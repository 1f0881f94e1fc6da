"""Trains or evaluates: onebnet train --config=quickstart [--config.field=value ...]

Exit status: 0 when all is done; 75 when SIGINT or SIGTERM stopped it after a checkpoint, from which the same command
goes on; 130 when a second Ctrl-C, or one before the training, stopped it at once; 2 for an error that the user can
mend; 1 for any other, such as the loss of another process, or 134 where JAX aborts because of that.
"""

import argparse
import collections
import re
from collections.abc import Sequence
from pathlib import Path

from onebnet_jax import tables
from onebnet_jax.commands import arguments
from onebnet_jax.errors import UserError, cli

EXAMPLES = """examples:
  onebnet train --config=quickstart
  onebnet train --config=cifar10_typeII --config.train.epochs=20 --workdir=runs/short
  onebnet evaluate --workdir=runs/quickstart
  onebnet evaluate --workdir=runs/folder --wrong=wrong.tsv     which photos it names wrong, and what it calls them
"""
MOST_CLASSES = 20  # of which a table still fits on a screen


def main(argv: list[str]) -> None:
    parser = arguments.parser("evaluate" if "--mode=eval" in argv else "train", __doc__, EXAMPLES)
    named = "config file, or the name of one that comes with onebnet_jax; --config.field=value changes a field of it"
    parser.add_argument("--config", metavar="FILE_OR_NAME", help=named)
    text = "folder of the run, or gs://BUCKET/DIR (default: runs/NAME_OF_CONFIG)"
    parser.add_argument("--workdir", type=_folder, help=text)
    parser.add_argument("--mode", choices=("train", "eval"), default="train")
    parser.add_argument("--checkpoint", choices=("best", "last"), help="which to evaluate (default: best)")
    parser.add_argument("--stage", help="of the run to evaluate, such as step1 (default: the latest with a checkpoint)")
    renewed = "evaluate with BN statistics that N batches of training images have brought up to date, such as 40"
    parser.add_argument("--bn-batches", type=int, default=0, metavar="N", help=renewed)
    wrong = "write a line for each wrong answer: the image's file or number, its class, the class named, probability"
    parser.add_argument("--wrong", type=arguments.path, metavar="FILE.tsv", help=wrong)
    traced = "trace these steps of each stage, without LAST, such as 100:105, for TensorBoard or ui.perfetto.dev"
    parser.add_argument("--profile", type=_steps, metavar="FIRST:LAST", help=traced)
    other = "let the run in the work directory go on with another config"
    parser.add_argument("--change-config", action="store_true", help=other)
    arguments.imports(parser)
    group = parser.add_argument_group("several processes", "found by itself under srun, mpirun and on a TPU slice")
    group.add_argument("--coordinator", metavar="HOST:PORT", help="where the first process can be reached")
    group.add_argument("--processes", type=int, help="how many there are")
    group.add_argument("--process", type=int, help="the number of this one, from 0")
    args, overrides = parser.parse_known_args(argv)
    if not (args.config or (args.mode == "eval" and args.workdir)):
        unknown = [word for word in overrides if not word.startswith("--config.")]
        words = f"; {unknown[0]!r} is not known here" if unknown else ""
        parser.error(f"--config is required, such as --config=quickstart, or the --workdir of a run to evaluate{words}")
    for_evaluation = {"--checkpoint": args.checkpoint, "--stage": args.stage}
    for_evaluation |= {"--bn-batches": args.bn_batches, "--wrong": args.wrong}
    for option, given in for_evaluation.items():
        if args.mode == "train" and given:
            parser.error(f"{option} is for --mode=eval")
    if args.bn_batches < 0:
        parser.error("--bn-batches must not be negative")
    for_training = {"--change-config": args.change_config, "--profile": args.profile}
    for_training["--config beside --workdir"] = args.config and args.workdir
    if args.mode == "eval" and any(for_training.values()):
        option = next(option for option, given in for_training.items() if given)
        parser.error(f"{option} is for training; an evaluation takes the config of the run, and --import=FILE.py")
    # Not before: JAX takes most of a second to import, which --help and a misspelt option need not wait for.
    import jax

    from onebnet_jax.export import card
    from onebnet_jax.runs import config, mirror, trained
    from onebnet_jax.runs.workdir import Workdir
    from onebnet_jax.training import hosts, run

    folder = args.workdir or Path("runs") / config.name(args.config)
    asked = config.load(args.config, overrides, folder) if args.mode == "train" else None
    code = config.own_code(args.config) if args.mode == "train" else None
    with hosts.joined(args.coordinator, args.processes, args.process):
        if asked is None:
            if args.wrong and jax.process_count() > 1:
                raise UserError("--wrong needs an evaluation in one process; leave out the others.")
            if args.wrong:
                card.check_writable(args.wrong, ".tsv")
            which = args.checkpoint or "best"
            network = trained.load(folder, which, args.stage).with_data(overrides)
            if hosts.is_leader():
                print(f"work directory: {folder}", flush=True)
            result, answers = run.answers(network, args.bn_batches)
            classes, best = network.info.class_names, {}
            done = f"{which} checkpoint, step {network.origin['step']}"
            if args.bn_batches:
                done += f", BN statistics after {args.bn_batches} batches"
            if hosts.is_leader():
                if len(classes) <= MOST_CLASSES:
                    words = "Of the images of each class (a row), how many were named as each (a column):"
                    tables.show(words, _confusion(answers, classes))
                    print()
                if args.wrong:
                    card.save({args.wrong: _wrong(answers, classes)})
        else:
            with hosts.stopping() as stopping, mirror.mirrored(folder, hosts.is_leader()) as (place, overtaken):
                workdir = Workdir(place, asked, args.change_config, code, title=str(folder))
                experiment, stop = config.experiment(asked), lambda: stopping() or overtaken()
                result, best = run.train(experiment, workdir, stop, args.profile)
            classes, done = experiment.data.info.class_names, f"epoch {result.get('epoch')}"
        if hosts.is_leader():
            top5 = f", Top-5 {result['top5']:.2f} %" if len(classes) > 5 else ""  # of five it is always 100 %
            print(f"{done}: test Top-1 {result['top1']:.2f} %{top5}, loss {result['loss']:.4f}")
            if best:
                print(f"best: {trained.score(best, True)}; this is what `onebnet convert` takes")


def _confusion(answers, classes: Sequence[str]) -> tables.Table:
    """How many images of each class were named as each."""
    counts = collections.Counter(zip(answers.labels.tolist(), answers.named.tolist()))
    rows = [["", *(str(number + 1) for number in range(len(classes))), "right"]]
    for label, name in enumerate(classes):
        row = [counts[label, named] for named in range(len(classes))]
        share = f"{100 * row[label] / sum(row):.1f} %" if any(row) else "-"
        rows.append([f"{label + 1} {name}", *map(str, row), share])
    return rows


def _wrong(answers, classes: Sequence[str]) -> bytes:
    """A line for each image that was named wrongly: its file, or place from 0 on, its class, the named, probability."""
    lines = []
    for index in (answers.labels != answers.named).nonzero()[0]:
        image = answers.places[index] if answers.paths is None else answers.paths[index]
        names = (classes[numbers[index]] for numbers in (answers.labels, answers.named))
        lines.append("\t".join([str(image), *names, f"{answers.probabilities[index]:.4f}"]) + "\n")
    return "".join(lines).encode(errors="surrogateescape")


def _steps(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"(\d+):(\d+)", text)
    if not found or int(found[1]) >= int(found[2]):
        raise argparse.ArgumentTypeError(f"{text!r} must be two steps, FIRST before LAST, such as 100:105")
    return int(found[1]), int(found[2])


def _folder(text: str) -> Path | str:
    if not text:
        raise argparse.ArgumentTypeError("must not be empty")
    return arguments.run(text)


if __name__ == "__main__":
    cli(main)
