"""Classifies images of any size and format with a converted file: onebnet predict model.tflite IMAGE ..."""

from onebnet_jax.commands import arguments
from onebnet_jax.errors import UserError, cli

EXAMPLES = """examples:
  onebnet predict model.tflite photo.jpg
  onebnet predict model.tflite photos           all images in a folder
  onebnet predict model.onb photo.jpg           by the native engine: needs no TensorFlow, and no card beside it
"""


def main(argv: list[str]) -> None:
    """Prints a line for each image; those that cannot be read are named at the end."""
    parser = arguments.parser("predict", __doc__, EXAMPLES)
    parser.add_argument("model", type=arguments.path, help="a .tflite file beside its card, or a .onb file")
    parser.add_argument(
        "images", type=arguments.path, nargs="+", metavar="IMAGE", help="JPEG, PNG, WebP, BMP, GIF; or a folder"
    )
    args = parser.parse_args(argv)
    import numpy as np

    from onebnet_jax.data import listing
    from onebnet_jax.export import card, predict

    facts = predict.facts(args.model)
    paths = [path for image in args.images for path in (listing.images_in(image) if image.is_dir() else [image])]
    read, faults = [], []  # what can be read, with its pixels
    for path in paths:
        try:
            read.append((path, card.pixels(path, facts)))
        except UserError as error:
            faults.append(str(error))
    if read:
        for (path, _), found in zip(read, predict.predict(args.model, np.stack([pixels for _, pixels in read]))):
            print(f"{path}: {found.label} {100 * found.probability:.1f} %")
    if faults:
        raise UserError("\n".join(faults))


if __name__ == "__main__":
    cli(main)
