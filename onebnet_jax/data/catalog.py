"""The data sets by name; cheap to import. A new one is an entry here, and a reader in `formats` for a new format."""

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path

from onebnet_jax.data import formats


@dataclasses.dataclass(frozen=True)
class Info:
    """What is known of a data set without reading it."""

    name: str  # as data.name and TFDS call it
    title: str  # its name in prose
    shape: tuple[int, int, int]  # (H, W, C) of one image
    num_classes: int
    class_names: tuple[str, ...]  # in the order of the labels; () of a folder, which has its own
    mean: tuple[float, ...]  # per channel, of the training images scaled to 0..1
    std: tuple[float, ...]
    train_size: int  # number of images of the full set
    test_size: int
    remedy: str  # how to get it where it is missing; part of an error message
    sources: tuple[str, ...] = ("tfds", "files", "download")  # see `load.open`; in the order in which "auto" tries them
    # A reader of its original files; None for what is streamed, and for a folder.
    read: Callable[[Path], tuple[formats.Arrays, Path]] | None = None
    folders: tuple[str, ...] = ()  # where these may lie when no folder is named
    originals: tuple[tuple[str, str], ...] = ()  # (address, SHA-256) of each, for "download"
    class_folders: tuple[str, ...] = ()  # names of the classes' folders, where it comes in such
    published: tuple[tuple[str, str], ...] = ()  # (name, SHA-256) of files, or of what NAME.gz holds
    zoom: float = 1.0  # sides of a test image before its centre is cut out, in units of that
    fields: tuple[str, ...] = ()  # of `data` in the configs, those that not all data sets have
    streamed: bool = False  # whether it is too large for memory, so that its images are read batch by batch

    def describe(self, train_size: int, test_size: int, origin: str) -> str:
        """What was found and from where, for the log."""
        full = f"(NOT the full set, which has {self.train_size} and {self.test_size})"
        text = f"{self.title}, {train_size} training and {test_size} test images, {origin}"
        return text if (train_size, test_size) == (self.train_size, self.test_size) else f"{text} {full}"


# Addresses and sums are those that TFDS records.
_FASHION = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com"
_CLOTHES = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
_CLOTHES_SUMS = {  # of the files in Debian's dataset-fashion-mnist, unpacked, as it packs them anew
    "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}
_CIFAR_SUMS = {  # as TFDS and Keras record them
    "cifar-10-binary.tar.gz": "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
    "cifar-10-python.tar.gz": "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce",
}
_CIFAR = "https://www.cs.toronto.edu/~kriz"

_FASHION_MNIST = Info(
    name="fashion_mnist",
    title="FashionMNIST",
    shape=(28, 28, 1),
    num_classes=10,
    class_names=_CLOTHES,
    mean=(0.2860,),  # of the 60,000 training images, see tests/data/test_load.py
    std=(0.3530,),
    train_size=60000,
    test_size=10000,
    remedy="install Debian's package (apt install dataset-fashion-mnist); or name by data.dir a folder of the original "
    "files (train-images-idx3-ubyte.gz and so on) or a TFDS data directory that holds fashion_mnist; or set "
    "data.source='download'; or take data.name='fashion_mnist_mini', a small part shipped in this package",
    read=functools.partial(formats.read_idx, subfolder="FashionMNIST/raw"),
    folders=("/usr/share/datasets/fashion-mnist",),  # of Debian's package
    published=tuple(_CLOTHES_SUMS.items()),
    originals=(
        (f"{_FASHION}/train-images-idx3-ubyte.gz", "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84"),
        (f"{_FASHION}/train-labels-idx1-ubyte.gz", "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845"),
        (f"{_FASHION}/t10k-images-idx3-ubyte.gz", "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073"),
        (f"{_FASHION}/t10k-labels-idx1-ubyte.gz", "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5"),
    ),
)
_FASHION_MNIST_MINI = dataclasses.replace(
    _FASHION_MNIST,  # also its mean and std, so that a network trained on one can be scored on the other
    name="fashion_mnist_mini",
    title="a 4,000-image part of FashionMNIST",
    train_size=4000,
    test_size=1000,
    remedy="it is shipped in this package, so leave data.dir empty; the full set is data.name='fashion_mnist'",
    sources=("files",),
    read=functools.partial(formats.read_npz, name="fashion_mnist_mini.npz"),
    folders=(str(Path(__file__).parent / "embedded"),),
    originals=(),
    published=(("fashion_mnist_mini.npz", "76bdfd9a5c125eec09e8b4f4a9df14fb574988b573eb74abe0bf197e2d69915b"),),
)
_CIFAR10 = Info(
    name="cifar10",
    title="CIFAR-10",
    shape=(32, 32, 3),
    num_classes=10,
    class_names=("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
    mean=(0.4914, 0.4822, 0.4465),  # not measured here, but by https://github.com/MadryLab/robustness/issues/70
    std=(0.2470, 0.2435, 0.2616),
    train_size=50000,
    test_size=10000,
    remedy="name by data.dir a folder of cifar-10-binary.tar.gz or cifar-10-python.tar.gz, packed or not, from "
    f"{_CIFAR}/cifar.html, or a TFDS data directory that holds cifar10; or set data.source='download'",
    read=formats.read_cifar10,
    originals=((f"{_CIFAR}/cifar-10-binary.tar.gz", _CIFAR_SUMS["cifar-10-binary.tar.gz"]),),
    published=tuple(_CIFAR_SUMS.items()),
)


# A line a class, in the order of the labels: its WordNet number, by which its folder is called, and its name, for which
# those of torchvision's pretrained networks are taken, as no two are the same.
_LINES = (Path(__file__).parent / "imagenet" / "classes.txt").read_text().splitlines()
_IMAGENET_FOLDERS, _IMAGENET_CLASSES = zip(*(line.split(" ", 1) for line in _LINES))
_IMAGENET = Info(
    name="imagenet2012",
    title="ImageNet",
    shape=(224, 224, 3),
    num_classes=1000,
    class_names=_IMAGENET_CLASSES,
    class_folders=_IMAGENET_FOLDERS,
    mean=(0.485, 0.456, 0.406),  # those of torchvision's pretrained networks, so also of a teacher made from one
    std=(0.229, 0.224, 0.225),
    train_size=1281167,
    test_size=50000,
    # Not `tfds build`: in 4.9.10 it needs apache_beam, which it does not declare.
    remedy="register at https://image-net.org/download-images and get ILSVRC2012_img_train.tar and "
    'ILSVRC2012_img_val.tar; then put both into DIR/downloads/manual, run python -c "import tensorflow_datasets; '
    "tensorflow_datasets.builder('imagenet2012', data_dir='DIR').download_and_prepare()\" and name DIR by data.dir or "
    "$TFDS_DATA_DIR; or unpack them as DIR/train/CLASS/*.JPEG and DIR/val/CLASS/*.JPEG, as torchvision's ImageFolder "
    "has them, and name DIR by data.dir",
    sources=("tfds", "files"),
    zoom=256 / 224,
    fields=("image_size", "lighting", "max_unreadable"),
    streamed=True,
)

_FOLDER = Info(
    name="folder",
    title="a folder of images",
    shape=(0, 0, 0),  # this and all else is what the folder has: see `folder`
    num_classes=0,
    class_names=(),
    mean=(),
    std=(),
    train_size=0,
    test_size=0,
    remedy="name by data.dir a folder DIR with DIR/train/CLASS/* and DIR/val/CLASS/*, or DIR/CLASS/*",
    sources=("files",),
    fields=("image_size", "max_unreadable", "resize", "classes", "mean", "std"),
)

DATASETS = {info.name: info for info in (_FASHION_MNIST, _CIFAR10, _FASHION_MNIST_MINI, _IMAGENET, _FOLDER)}
