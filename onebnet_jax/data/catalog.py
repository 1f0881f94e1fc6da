"""What is known of the data sets without reading them. Cheap to import."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Info:
    """What is known of a data set without reading it.

    Attributes:
      title: its name in prose.
      shape: (H, W, C) of one image.
      num_classes: number of labels.
      class_names: in the order of the labels; () where nothing needs them.
      mean, std: per channel, of the training images scaled to 0..1.
      train_size, test_size: number of images.
      remedy: how to get it where it is missing; part of an error message.
      streamed: whether it is too large for memory, so read by `onebnet_jax.imagenet` and not by `onebnet_jax.data`.
    """

    title: str
    shape: tuple[int, int, int]
    num_classes: int
    class_names: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    train_size: int
    test_size: int
    remedy: str = ""
    streamed: bool = False


_GARMENTS = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
_FASHION_MNIST = Info(
    title="FashionMNIST",
    shape=(28, 28, 1),
    num_classes=10,
    class_names=_GARMENTS,
    # Measured on the 60,000 training images by `python -m onebnet_jax.data.embedded.build`.
    mean=(0.2860,),
    std=(0.3530,),
    train_size=60000,
    test_size=10000,
    remedy=(
        "install Debian's package (apt install dataset-fashion-mnist); or put the four original files "
        "(train-images-idx3-ubyte.gz and so on, packed or not) into a folder and name it by data.dir; or name a "
        "TFDS data directory that holds a prepared fashion_mnist by data.dir or $TFDS_DATA_DIR; or run once with "
        "network access and data.source='download'; or take data.name='fashion_mnist_mini', a small part shipped "
        "in this package"
    ),
)

DATASETS = {
    "fashion_mnist": _FASHION_MNIST,
    "cifar10": Info(
        title="CIFAR-10",
        shape=(32, 32, 3),
        num_classes=10,
        class_names=("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
        # Not measured here: of the 50,000 training images by https://github.com/MadryLab/robustness/issues/70.
        mean=(0.4914, 0.4822, 0.4465),
        std=(0.2470, 0.2435, 0.2616),
        train_size=50000,
        test_size=10000,
        remedy=(
            "put cifar-10-binary.tar.gz or cifar-10-python.tar.gz from https://www.cs.toronto.edu/~kriz/cifar.html, "
            "packed or not, into a folder and name it by data.dir; or name a TFDS data directory that holds a "
            "prepared cifar10 by data.dir or $TFDS_DATA_DIR; or run once with network access and "
            "data.source='download'"
        ),
    ),
    # Normalized as the full set is, so that a network trained on one can be scored on the other.
    "fashion_mnist_mini": dataclasses.replace(
        _FASHION_MNIST, title="a 4,000-image part of FashionMNIST", train_size=4000, test_size=1000, remedy=""
    ),
    "imagenet2012": Info(
        title="ImageNet",
        shape=(224, 224, 3),
        num_classes=1000,
        class_names=(),
        # Not measured here: those of torchvision's pretrained networks, so also of a teacher made from one.
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
        train_size=1281167,
        test_size=50000,
        remedy=(
            # Not `tfds build`: in 4.9.10 it needs apache_beam, which it does not declare.
            "register at https://image-net.org/download-images and get ILSVRC2012_img_train.tar and "
            'ILSVRC2012_img_val.tar; then put both into DIR/downloads/manual, run python -c "import '
            "tensorflow_datasets; tensorflow_datasets.builder('imagenet2012', data_dir='DIR').download_and_prepare()\" "
            "and name DIR by data.dir or $TFDS_DATA_DIR; or unpack them as DIR/train/CLASS/*.JPEG and "
            "DIR/val/CLASS/*.JPEG, as torchvision's ImageFolder has them, and name DIR by data.dir"
        ),
        streamed=True,
    ),
}
