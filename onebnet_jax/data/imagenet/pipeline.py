"""From stored JPEGs to batches of pixels with tf.data. Imports TensorFlow, so only `reader` imports it, when needed."""

from collections.abc import Callable, Iterator

import numpy as np
import tensorflow as tf

from onebnet_jax.data.catalog import DATASETS

tf.config.set_visible_devices([], "GPU")  # or TensorFlow would take the memory that JAX needs

READERS = 8  # records are read from so many files at once
CHUNK = 16  # images that are decoded one after another by one thread
RESIZE_RATIO = DATASETS["imagenet2012"].zoom  # shorter side before the central crop, in units of the crop
SCALE = (0.08, 1.0)  # share of the image's area that a random crop takes
RATIO = (3 / 4, 4 / 3)  # its width / height
TRIES = 10
# Principal components of ImageNet's colours in 0..1, Krizhevsky et al. 2012, section 4.1, with the values of Torch.
_EIGENVALUES = (0.2175, 0.0188, 0.0045)
_EIGENVECTORS = ((-0.5675, 0.7192, 0.4009), (-0.5808, -0.0045, -0.8140), (-0.5836, -0.6948, 0.4203))


def read_files(paths: np.ndarray, labels: np.ndarray, threads: int) -> tf.data.Dataset:
    """The undecoded images of files, with label and name."""
    files = tf.data.Dataset.from_tensor_slices({"names": paths, "labels": labels})
    return files.map(lambda file: {**file, "content": tf.io.read_file(file["names"])}, threads, deterministic=True)


def read_records(windows: Callable[[], Iterator], features) -> tf.data.Dataset:
    """The undecoded images of TFDS records, with label and name; one window is used while the next is read.

    `windows` makes an iterator of (paths, skips, takes, order) as `sources.windows_of` has them; `features` are those
    of the TFDS builder.
    """
    import tensorflow_datasets as tfds

    def stretch(path, skip, take):
        return tf.data.TFRecordDataset(path, buffer_size=2**20).skip(skip).take(take)

    def read(paths, skips, takes, order):
        stretches = tf.data.Dataset.from_tensor_slices((paths, skips, takes))
        records = stretches.interleave(stretch, READERS, num_parallel_calls=READERS, deterministic=True)
        return records.batch(tf.reduce_sum(takes)).map(lambda window: tf.gather(window, order))

    def parse(record):
        example = features.deserialize_example(record, decoders={"image": tfds.decode.SkipDecoding()})
        label = tf.cast(example["label"], tf.int32)
        return {"names": example["file_name"], "labels": label, "content": example["image"]}

    signature = tuple(tf.TensorSpec([None], dtype) for dtype in (tf.string, tf.int64, tf.int64, tf.int64))
    stored = tf.data.Dataset.from_generator(windows, output_signature=signature)
    return stored.flat_map(read).prefetch(1).unbatch().map(parse)


def batches(examples, positions: np.ndarray, key, batch_size: int, image_size: int, lighting: float, threads: int):
    """Decodes examples, in their order, into batches as `reader` has them, with "names"; the last may be smaller.

    The augmentation of each follows from the key, (seed, epoch) or None for evaluation, and its position in the epoch
    (int64 [M]). Image and mask are 0 where an image cannot be decoded.
    """
    shape = (image_size, image_size, 3)

    def decode(slot, content, position):
        if key is None:
            return slot, central_view(content, image_size)
        return slot, random_view(content, image_size, tf.random.experimental.stateless_fold_in(key, position), lighting)

    def decode_chunk(chunk, positions):
        size = tf.size(positions)
        stored = tf.data.Dataset.from_tensor_slices((tf.range(size), chunk["content"], positions))
        none = tf.data.Dataset.from_tensors((tf.zeros([0], tf.int32), tf.zeros([0, *shape], tf.uint8)))
        decoded = stored.map(decode).ignore_errors().batch(CHUNK).concatenate(none).take(1)

        def into_slots(slots, images):
            slots = slots[:, tf.newaxis]
            images = tf.scatter_nd(slots, images, [size, *shape])
            mask = tf.scatter_nd(slots, tf.ones(tf.shape(slots)[:1]), [size])
            return {"images": images, "mask": mask, "labels": chunk["labels"], "names": chunk["names"]}

        return decoded.map(into_slots)

    positions = tf.data.Dataset.from_tensor_slices(positions)
    chunks = tf.data.Dataset.zip((examples, positions)).batch(CHUNK)
    decoded = chunks.interleave(decode_chunk, threads, num_parallel_calls=threads, deterministic=True)
    options = tf.data.Options()
    options.threading.private_threadpool_size = threads
    options.threading.max_intra_op_parallelism = 1
    return decoded.unbatch().batch(batch_size).prefetch(2).with_options(options).as_numpy_iterator()


@tf.function(autograph=False)  # traced once, not for every epoch
def central_view(content: tf.Tensor, size: int) -> tf.Tensor:
    """Resizes the shorter side to size * `RESIZE_RATIO` and cuts the centre out: encoded image -> uint8 [H, W, 3].

    As torchvision's Resize and CenterCrop on a Pillow image, but only what the crop needs is decoded and resized.
    """
    target = round(size * RESIZE_RATIO)

    def geometry(shape):  # output pixels per input pixel, and where the crop begins in the resized image
        resized = target * shape // tf.reduce_min(shape)
        return resized / shape, tf.round((resized - size) / 2)

    def window(shape):
        scale, offset = geometry(shape)
        reach = tf.maximum(1 / scale, 1) + 1  # of the filter, and a pixel for the smoothing of JPEG's colours
        low = tf.maximum(tf.cast(tf.floor(offset / scale - reach), tf.int32), 0)
        high = tf.minimum(tf.cast(tf.math.ceil((offset + size) / scale + reach), tf.int32), shape)
        return tf.concat([low, high - low], 0)

    shape, window, pixels = _decode(content, window)
    scale, offset = geometry(shape)
    return _resize(pixels, size, scale, tf.cast(window[:2], tf.float64) * scale - offset)


@tf.function(autograph=False)
def random_view(content: tf.Tensor, size: int, key: tf.Tensor, lighting: float) -> tf.Tensor:
    """A random crop, resized, perhaps flipped and with another light by a key [2]: encoded image -> uint8 [H, W, 3]."""
    draws = tf.random.stateless_uniform([2 * TRIES + 3], key, dtype=tf.float64, alg="philox")
    _, _, pixels = _decode(content, lambda shape: random_window(shape, draws[:-1]))
    scale = tf.fill([2], tf.constant(size, tf.float64)) / tf.cast(tf.shape(pixels)[:2], tf.float64)
    light = 0.0
    if lighting:
        noise_key = tf.random.experimental.stateless_fold_in(key, 1)
        noise = lighting * tf.random.stateless_normal([3], noise_key, alg="philox")
        light = 255 * tf.linalg.matvec(_EIGENVECTORS, noise * _EIGENVALUES)
    image = _resize(pixels, size, scale, tf.zeros([2], tf.float64), light)
    return tf.cond(draws[-1] < 0.5, lambda: image, lambda: tf.reverse(image, [1]))


def random_window(shape: tf.Tensor, draws: tf.Tensor) -> tf.Tensor:
    """The crop of torchvision's RandomResizedCrop: (H, W) -> (top, left, height, width), int32 [4].

    draws: float64 [22], uniform in 0..1: for each of ten tries the area and the logarithm of the ratio; then the place.
    If no try fits, the central crop of the nearest ratio is taken.
    """
    size = tf.cast(shape, tf.float64)
    areas = size[0] * size[1] * (SCALE[0] + (SCALE[1] - SCALE[0]) * draws[:TRIES])
    ratios = tf.exp(np.log(RATIO[0]) + np.log(RATIO[1] / RATIO[0]) * draws[TRIES : 2 * TRIES])
    tries = tf.round(tf.stack([tf.sqrt(areas / ratios), tf.sqrt(areas * ratios)], 1))
    fits = tf.reduce_all((tries > 0) & (tries <= size), 1)
    whole = tf.round(tf.stack([tf.minimum(size[0], size[1] / RATIO[0]), tf.minimum(size[1], size[0] * RATIO[1])]))
    fitted = tf.reduce_any(fits)
    crop = tf.where(fitted, tries[tf.argmax(tf.cast(fits, tf.int32))], whole)
    corner = tf.floor(tf.where(fitted, draws[2 * TRIES :] * (size - crop + 1), (size - crop) / 2))
    return tf.cast(tf.concat([corner, crop], 0), tf.int32)


def _decode(content: tf.Tensor, window_of: Callable) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Decodes a part of an image: -> its (H, W), the window (top, left, height, width), uint8 pixels of the window."""

    def jpeg():
        shape = tf.io.extract_jpeg_shape(content)[:2]
        window = window_of(shape)
        # The accurate transform is Pillow's default, and as quick.
        return shape, window, tf.io.decode_and_crop_jpeg(content, window, channels=3, dct_method="INTEGER_ACCURATE")

    def other():  # one of ImageNet is a PNG
        image = tf.io.decode_image(content, channels=3, expand_animations=False)
        shape = tf.shape(image)[:2]
        window = window_of(shape)
        return shape, window, tf.slice(image, [window[0], window[1], 0], [window[2], window[3], 3])

    return tf.cond(tf.io.is_jpeg(content), jpeg, other)


def _resize(pixels: tf.Tensor, size: int, scale: tf.Tensor, translation: tf.Tensor, light=0.0) -> tf.Tensor:
    """The [size, size] square at -translation of the pixels scaled by `scale`, plus a light per channel: uint8."""
    places = {"scale": tf.cast(scale, tf.float32), "translation": tf.cast(translation, tf.float32)}
    options = {"size": [size, size], "kernel_type": "triangle", "antialias": True}  # bilinear
    images = tf.raw_ops.ScaleAndTranslate(images=pixels[tf.newaxis], **places, **options)
    image = tf.clip_by_value(tf.round(tf.ensure_shape(images[0], [size, size, 3]) + light), 0, 255)
    return tf.cast(image, tf.uint8)
