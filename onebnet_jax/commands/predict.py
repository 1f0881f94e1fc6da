"""Classifies images of any size and format with a converted file: onebnet predict model.tflite IMAGE ..."""

from onebnet_jax.commands import arguments
from onebnet_jax.errors import UserError, cli

EXAMPLES = """examples:
  onebnet predict model.tflite photo.jpg
  onebnet predict model.tflite photos/*
  onebnet predict model.onb photo.jpg           by the native engine: needs no TensorFlow, and no card beside it
"""


def main(argv: list[str]) -> None:
    """Prints a line for each image; those that cannot be read are named at the end."""
    parser = arguments.parser("predict", __doc__, EXAMPLES)
    parser.add_argument("model", type=arguments.path, help="a .tflite file beside its card, or a .onb file")
    parser.add_argument("images", type=arguments.path, nargs="+", metavar="IMAGE", help="JPEG, PNG, WebP, BMP or GIF")
    args = parser.parse_args(argv)
    import numpy as np

    from onebnet_jax.export import card, convert, native

    if args.model.suffix == ".onb":
        facts, predict = native.Engine(args.model).card, native.predict
        if not isinstance(facts.get("input"), dict):
            raise UserError(f"{args.model} does not say how images become its input: convert the network again.")
    elif args.model.suffix != ".tflite":
        raise UserError(f"{args.model} is no .tflite or .onb file; the model comes first, then the images.")
    else:
        facts, predict = card.read(args.model)[1], convert.predict
    pixels, faults = {}, []
    for path in args.images:
        try:
            pixels[path] = card.pixels(path, facts)
        except UserError as error:
            faults.append(str(error))
    if pixels:
        for path, found in zip(pixels, predict(args.model, np.stack(list(pixels.values())))):
            print(f"{path}: {found.label} {100 * found.probability:.1f} %")
    if faults:
        raise UserError(" ".join(faults))


if __name__ == "__main__":
    cli(main)
