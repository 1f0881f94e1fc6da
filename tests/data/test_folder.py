"""A folder of images: what is found, what is refused, and how a file becomes pixels."""

import os
from pathlib import Path

import image_files
import numpy as np
import pytest
from PIL import Image

from onebnet_jax.data import load, photos
from onebnet_jax.data.imagenet.reader import Share
from onebnet_jax.errors import UserError

NAMES = ("bolt", "nut", "screw")
SUFFIXES = ("JPEG", "PNG", "WEBP", "BMP", "GIF")


def fill(root, counts, formats=SUFFIXES, **options):
    """counts[label] images of one colour each, which tells their label, in NAMES[label], of various sizes."""
    for label, count in enumerate(counts):
        (root / NAMES[label]).mkdir(parents=True, exist_ok=True)
        for index in range(count):
            kind = formats[index % len(formats)]
            pixels = image_files.plain(label, index, 30 + index, 60 - index)
            content = image_files.encode(pixels, kind, **options)
            (root / NAMES[label] / f"{index:02}.{kind.lower()}").write_bytes(content)
    return root


def opened(root, **options):
    return load.open("folder", directory=str(root), **{"image_size": 8, **options})


def labels_by_colour(images):
    return [image_files.identify(image)[0] for image in images]


def test_both_splits_in_every_format_with_the_labels_of_their_folders(tmp_path):
    fill(tmp_path / "train", (6, 5, 7))
    fill(tmp_path / "val", (5, 2, 2))
    dataset = opened(tmp_path)
    assert (dataset.train_size, dataset.test_size) == (18, 9) and dataset.train_images.shape == (18, 8, 8, 3)
    assert labels_by_colour(dataset.train_images) == dataset.train_labels.tolist() == [0] * 6 + [1] * 5 + [2] * 7
    assert labels_by_colour(dataset.test_images) == dataset.test_labels.tolist()
    info = dataset.info
    assert (info.class_names, info.num_classes, info.shape) == (NAMES, 3, (8, 8, 3))
    scaled = dataset.train_images / 255
    np.testing.assert_allclose(info.mean, scaled.mean((0, 1, 2)), atol=5.1e-5)
    np.testing.assert_allclose(info.std, scaled.std((0, 1, 2)), atol=5.1e-5)


def test_of_classes_alone_a_share_is_for_testing_wherever_the_folder_lies(tmp_path):
    fill(tmp_path, (10, 5, 20))
    dataset = opened(tmp_path)
    whole, test = np.bincount([*dataset.train_labels, *dataset.test_labels]), np.bincount(dataset.test_labels)
    assert whole.tolist() == [10, 5, 20] and (test > 0).all() and (test < whole).all()
    moved = tmp_path.rename(tmp_path.with_name("elsewhere"))
    np.testing.assert_array_equal(opened(moved).test_images, dataset.test_images)
    assert opened(moved).photos == dataset.photos
    (moved / "nut" / "00.jpeg").rename(moved / "nut" / "only.jpeg")
    assert opened(moved).photos != dataset.photos
    for name in range(1, 5):
        next((moved / "nut").glob(f"{name:02}.*")).unlink()
    with pytest.raises(UserError, match="nut holds one image"):
        opened(moved)


def test_a_photos_part_does_not_depend_on_the_others(tmp_path):
    """More photos, another class, and other labels for some leave all others where they are, also in validation."""
    fill(tmp_path, (20, 20))

    def parts_of():
        dataset = load.with_validation(opened(tmp_path), 0.3, seed=0)
        return {os.path.basename(path): split for split, (paths, *_) in dataset.files.items() for path in paths}

    for path in list((tmp_path / "nut").iterdir()):
        path.rename(path.with_name(f"nut {path.name}"))
    before = parts_of()
    fill(tmp_path, (24, 0, 20), ("PNG",))
    for path in sorted((tmp_path / "nut").iterdir())[:5]:  # they were no nuts
        path.rename(tmp_path / "bolt" / path.name)
    after = parts_of()
    assert len(before) == 40 < len(after) and set(before.values()) == {"train", "validation", "test"}
    assert {name: after[name] for name in before} == before


@pytest.mark.parametrize("name", ["valid", "validation", "val"])
def test_with_three_splits_one_is_for_validation(tmp_path, name):
    for split, count in (("train", 4), (name, 2), ("test", 3)):
        fill(tmp_path / split, (count, count))
    dataset = opened(tmp_path)
    assert (dataset.train_size, len(dataset.validation_labels), dataset.test_size) == (8, 4, 6)
    with pytest.raises(UserError, match="data.validation"):
        load.with_validation(dataset, 0.5, seed=0)


def test_nested_folders_and_links_are_read_once_and_the_rest_is_counted(tmp_path):
    root, elsewhere = fill(tmp_path / "root", (4, 4)), fill(tmp_path / "elsewhere", (2,))
    (root / "bolt" / "deep" / "er").mkdir(parents=True)
    (root / "bolt" / "00.jpeg").rename(root / "bolt" / "deep" / "er" / "00.JPG")
    (root / "bolt" / "deep" / "loop").symlink_to(root / "bolt")
    (root / "screw").symlink_to(elsewhere / "bolt")
    for hidden in (".ipynb_checkpoints", "@eaDir", "__MACOSX"):
        (root / hidden).mkdir()
        (root / "nut" / hidden).mkdir()
    for name in (".00.jpeg", "._01.png", "notes.txt"):
        (root / "nut" / name).write_bytes(b"")
    (root / "README").write_text("")
    dataset = opened(root)
    assert dataset.info.class_names == NAMES and dataset.train_size + dataset.test_size == 10
    assert "left out: 8 hidden" in dataset.source and "left out: 2 other files" in dataset.source


def test_a_file_in_two_places_is_told(tmp_path):
    fill(tmp_path / "Train", (3, 3))
    (tmp_path / "TESTING").symlink_to(tmp_path / "Train")
    assert "WARNING: 6 files are for training and for testing" in opened(tmp_path).source
    (tmp_path / "Train" / "bolt" / "also").symlink_to(tmp_path / "Train" / "nut")
    assert "WARNING: 3 files are in two classes" in opened(tmp_path).source


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda root: (root / "train" / "washer").mkdir(), "train/washer holds no image"),
        (lambda root: fill(root / "val", (0, 0, 2)), "val has a class folder 'screw' and .*train has none"),
        (lambda root: fill(root / "train", (0, 0, 2)), "train has a class folder 'screw' and .*val has none"),
        (lambda root: [p.write_bytes(b"x") for p in root.rglob("*.*")], "'bolt' for train in .* can be decoded"),
        (lambda root: [p.unlink() for p in root.rglob("*.*")], "train holds no image"),
        (lambda root: (root / "val").rename(root / "exam"), "holds one image|has a class folder|only"),
        (
            lambda root: (root / "val").rename(root / "train" / "deep"),
            "only train and no class .* name .*train by data.dir",
        ),
        (lambda root: (root / "train").rename(root / "testing"), "only testing, val and no class folders; add train"),
        (lambda root: fill(root / "Valid", (1,)), "Valid and .*/val are both for validation"),
    ],
)
def test_what_cannot_be_learned_from_is_named(tmp_path, spoil, words):
    fill(tmp_path / "train", (3, 3))
    fill(tmp_path / "val", (2, 2))
    spoil(tmp_path)
    if (tmp_path / "exam").exists():  # two folders, which are then two classes
        assert opened(tmp_path).info.class_names == ("exam", "train")
        return
    with pytest.raises(UserError, match=words) as error:
        opened(tmp_path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("directory", ["", "empty", "one"])
def test_a_folder_without_classes_is_refused_with_the_layout(tmp_path, directory):
    (tmp_path / "empty").mkdir()
    fill(tmp_path / "one", (3,))
    with pytest.raises(UserError, match="DIR/train/CLASS"):
        load.open("folder", directory=directory and str(tmp_path / directory), image_size=8)


def test_damaged_images_are_left_out_up_to_a_number(tmp_path):
    root = fill(tmp_path, (12, 12))
    broken = [root / "bolt" / "01.png", root / "nut" / "00.jpeg"]
    broken[0].write_bytes(broken[0].read_bytes()[:50])
    broken[1].write_bytes(b"")
    (root / "nut" / "gone.jpg").symlink_to(root / "nowhere")
    dataset = opened(root)
    sizes = f"images {dataset.train_size} for train, {dataset.test_size} for test"
    assert dataset.train_size + dataset.test_size == 22 and sizes in dataset.source
    gone = ", ".join(map(str, [*broken, root / "nut" / "gone.jpg"]))
    assert f"left out: 3 that cannot be decoded: {gone}" in dataset.source and dataset.photos["number"] == 25
    assert [len(dataset.files[split][0]) for split in ("train", "test")] == [dataset.train_size, dataset.test_size]
    assert labels_by_colour(dataset.train_images) == dataset.train_labels.tolist()
    with pytest.raises(UserError, match="3 images .*01.png .*data.max_unreadable"):
        opened(root, max_unreadable=2)


@pytest.fixture
def streamed(tmp_path, monkeypatch):
    """Opens folders that take all of the memory, in which one image cannot be decoded."""
    monkeypatch.setattr(photos, "memory", lambda: 10_000)
    fill(tmp_path, (15, 10, 5))
    (tmp_path / "nut" / "01.png").write_bytes(b"no image")
    return lambda **options: opened(tmp_path, **options)


def test_what_does_not_fit_into_memory_is_streamed(streamed, monkeypatch, capsys):
    """In another order every epoch, the same however many processes share a batch."""
    dataset = streamed(flip=True, crop_padding=1)
    assert "streamed" in dataset.source and dataset.info.streamed
    epochs = []
    for epoch in (0, 1):
        whole = list(dataset.train_batches(Share(8), 3, epoch))
        images, labels, mask = (
            np.concatenate([batch[name] for batch in whole]) for name in ("images", "labels", "mask")
        )
        shown = [image_files.identify(image[1:7, 1:7]) for image in images[mask > 0]]
        assert [label for label, _ in shown] == labels[mask > 0].tolist() and len(set(shown)) == len(shown)
        halves = [list(dataset.train_batches(Share(4, index, 2), 3, epoch)) for index in (0, 1)]
        for one, *others in zip(whole, *halves, strict=True):
            for name in one:
                np.testing.assert_array_equal(one[name], np.concatenate([other[name] for other in others]))
        epochs.append(shown)
        late = list(dataset.train_batches(Share(8), 3, epoch, first_step=2))
        np.testing.assert_array_equal(late[0]["images"], whole[2]["images"])
    assert epochs[0] != epochs[1] and sorted(epochs[0]) == sorted(epochs[1])
    assert capsys.readouterr().err.count("left out, as") == 1
    monkeypatch.setattr(photos, "memory", lambda: 10**9)
    read = streamed(flip=True, crop_padding=1)
    assert (read.info.mean, read.info.std) == (dataset.info.mean, dataset.info.std) and not read.info.streamed
    test = np.concatenate([batch["images"] for batch in dataset.test_batches(Share(2))])
    np.testing.assert_array_equal(test[: read.test_size], read.test_images)
    monkeypatch.setattr(photos, "memory", lambda: 10_000)
    (plain,) = streamed().train_batches(Share(64), 3, 0)
    (turned,) = streamed(rotate=180.0, brightness=0.5).train_batches(Share(64), 3, 0)
    other = [not np.array_equal(*pair) for pair in zip(plain["images"], turned["images"])]
    assert np.array_equal(other, plain["mask"] > 0) and np.array_equal(plain["labels"], turned["labels"])
    with pytest.raises(UserError, match="01.png.*data.max_unreadable"):
        list(streamed(max_unreadable=0).train_batches(Share(8), 0, 0))


def test_what_is_streamed_is_held_out_alike(streamed, monkeypatch):
    dataset = load.with_validation(streamed(), 0.25, seed=0)
    paths, labels, _ = dataset.files["validation"]
    assert set(labels) == {0, 1, 2} and dataset.validates
    (batch,) = dataset.test_batches(Share(len(labels)), "validation")
    assert batch["labels"].tolist() == labels.tolist()
    monkeypatch.setattr(photos, "memory", lambda: 10**9)
    read = load.with_validation(streamed(), 0.25, seed=0)
    assert set(read.files["validation"][0]) == {path for path in paths if not path.endswith("nut/01.png")}
    assert read.photos == dataset.photos


def test_the_labels_are_those_of_a_runs_classes_by_name(tmp_path):
    fill(tmp_path, (5, 5, 5))
    known = ("washer", *reversed(NAMES))
    dataset = opened(tmp_path, classes=known, mean=(0.1, 0.2, 0.3), std=(0.5, 0.5, 0.5))
    assert [known[label] for label in dataset.train_labels] == [
        NAMES[i] for i in labels_by_colour(dataset.train_images)
    ]
    assert "no images of washer" in dataset.source and dataset.info.mean == (0.1, 0.2, 0.3)
    with pytest.raises(UserError, match="bolt, nut, screw.*bolt, washer"):
        opened(tmp_path, classes=("bolt", "washer"))


def test_a_changed_folder_is_read_again(tmp_path):
    first = opened(fill(tmp_path, (5, 5)))
    for path in (tmp_path / "nut").iterdir():
        path.write_bytes(image_files.encode(image_files.plain(0, 0), "PNG"))
        os.utime(path, ns=(1, 1))
    again = opened(tmp_path)
    assert labels_by_colour(first.train_images) == [0] * 4 + [1] * 4
    assert labels_by_colour(again.train_images) == [0] * 8
    assert again.photos["number"] == first.photos["number"] and again.photos != first.photos  # by the files' sizes


def test_grey_files_give_one_channel_unless_there_is_a_coloured_one(tmp_path):
    assert opened(fill(tmp_path, (5, 5), ("PNG", "JPEG"), mode="L")).info.shape == (8, 8, 1)
    fill(tmp_path, (0, 0, 2), ("PNG",))
    dataset = opened(tmp_path)
    assert dataset.info.shape == (8, 8, 3) and len(dataset.info.mean) == 3
    assert opened(tmp_path, mean=(0.5,), std=(0.5,)).train_images.shape[3] == 1


def test_validation_follows_the_seed(tmp_path):
    dataset = opened(fill(tmp_path / "a", (25, 10)))
    one, again, other = (load.with_validation(dataset, 0.25, seed) for seed in (0, 0, 1))
    assert one.train_size + len(one.validation_labels) == dataset.train_size and set(one.validation_labels) == {0, 1}
    np.testing.assert_array_equal(one.validation_images, again.validation_images)
    assert not np.array_equal(one.validation_images, other.validation_images)
    pairs = [tuple(map(image_files.identify, images)) for images in (one.train_images, one.validation_images)]
    assert not {*pairs[0]} & {*pairs[1]} and {*pairs[0], *pairs[1]} == {
        *map(image_files.identify, dataset.train_images)
    }


# From a file to pixels.


def decoded(image, tmp_path, size=(8, 8), channels=3, resize="crop", suffix="png", **saved):
    path = tmp_path / f"image.{suffix}"
    image.save(path, **saved)
    return photos.decode(path, size, channels, resize)


def halves(left, right, size=(16, 8)):
    """Left and right half of an image, in two colours."""
    image = Image.new("RGB", size, left)
    image.paste(right, (size[0] // 2, 0, *size))
    return image


def test_an_image_is_upright(tmp_path):
    image, exif = halves("red", "blue", (8, 8)), Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees: left becomes top
    pixels = decoded(image, tmp_path, suffix="jpg", exif=exif, quality=95, subsampling=0)
    assert pixels[0, :, 0].min() > 200 and pixels[-1, :, 2].min() > 200


@pytest.mark.parametrize(("resize", "columns"), [("crop", "rrrrbbbb"), ("pad", "rrrrbbbb"), ("stretch", "rrrrbbbb")])
def test_a_wide_image_is_cut_padded_or_stretched(tmp_path, resize, columns):
    pixels = decoded(halves("red", "blue", (64, 32)), tmp_path, resize=resize)
    rows = {"crop": slice(0, 8), "pad": slice(2, 6), "stretch": slice(0, 8)}[resize]
    assert "".join("r" if red > blue else "b" for red, _, blue in pixels[4]) == columns
    black = np.delete(pixels, np.arange(8)[rows], axis=0)
    assert not black.any() and (pixels[rows].max(-1) > 100).all()


def test_the_centre_is_cut_as_pillow_does_it(tmp_path):
    image = Image.fromarray(image_files.photo(50, 90))
    expected = np.asarray(image.resize((43, 24), Image.BILINEAR))[:, 9:33]
    np.testing.assert_array_equal(decoded(image, tmp_path, (24, 24)), expected)


def test_large_jpegs_are_much_like_themselves_decoded_whole(tmp_path):
    image = Image.fromarray(image_files.photo(600, 800))
    pixels = decoded(image, tmp_path, (32, 32), suffix="jpg", quality=95)
    expected = np.asarray(image.resize((43, 32), Image.BILINEAR))[:, 5:37].astype(int)
    assert np.abs(pixels - expected).mean() < 2


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16", "CMYK"])
@pytest.mark.parametrize("channels", [1, 3])
def test_every_kind_of_pixel_becomes_grey_or_colour(tmp_path, mode, channels):
    value = 255 if mode == "1" else 150
    if mode == "I;16":
        image = Image.fromarray(np.full((20, 20), value * 257, np.uint16))
    else:
        image = Image.new("RGB", (20, 20), (value,) * 3).convert(mode)
    pixels = decoded(image, tmp_path, channels=channels, suffix="jpg" if mode == "CMYK" else "png")
    assert pixels.shape == (8, 8, channels) and pixels.dtype == np.uint8
    assert np.abs(pixels.astype(int) - value).max() <= 3  # a palette has not all shades


def test_what_is_transparent_is_white_and_of_an_animation_the_first_picture_counts(tmp_path):
    assert decoded(Image.new("RGBA", (9, 9), (255, 0, 0, 0)), tmp_path).min() == 255
    palette = Image.new("P", (9, 9))
    palette.info["transparency"] = 0
    assert decoded(palette, tmp_path, suffix="gif").min() == 255
    frames = [Image.new("RGB", (9, 9), colour) for colour in ("red", "blue")]
    for suffix in ("gif", "webp"):
        pixels = decoded(frames[0], tmp_path, suffix=suffix, save_all=True, append_images=frames[1:])
        assert pixels[..., 0].min() > 230 and pixels[..., 2].max() < 30


def test_a_format_that_is_not_named_is_not_opened(tmp_path):
    Image.new("RGB", (9, 9)).save(tmp_path / "a.tiff")
    with pytest.raises(OSError):
        photos.decode(Path(tmp_path / "a.tiff"), (8, 8), 3)


def test_tiny_imagenet_as_it_is_unpacked(tmp_path):
    for split in ("train", "val", "test"):
        fill(tmp_path / split, (4, 3, 2))
    for name in NAMES:
        (tmp_path / "train" / name).rename(tmp_path / "moved")
        (tmp_path / "train" / name).mkdir()
        (tmp_path / "moved").rename(tmp_path / "train" / name / "images")
        (tmp_path / "train" / name / f"{name}_boxes.txt").write_text("")
    for split in ("val", "test"):
        images, table = tmp_path / split / "images", []
        images.mkdir()
        for path in sorted((tmp_path / split).glob("*/*.*")):
            if path.parent != images:
                table.append(f"{path.parent.name}_{path.name}\t{path.parent.name}\t0\t0\t63\t63\n")
                path.rename(images / f"{path.parent.name}_{path.name}")
        for name in NAMES:
            (tmp_path / split / name).rmdir()
    (tmp_path / "val" / "val_annotations.txt").write_text("".join(table))
    dataset = opened(tmp_path)
    assert (dataset.train_size, dataset.test_size, dataset.validates) == (9, 9, False)
    assert labels_by_colour(dataset.test_images) == dataset.test_labels.tolist()
    assert "5 other files or folders" in dataset.source  # three lists of boxes, the annotations, and the test images
    (images.parents[1] / "val" / "images" / "nut_01.png").unlink()
    with pytest.raises(UserError, match="names 1 images that are not there, such as .*nut_01.png"):
        opened(tmp_path)


def test_a_folder_that_cannot_be_read_is_not_passed_over(tmp_path, monkeypatch):
    fill(tmp_path, (5, 5, 5))
    scandir = os.scandir
    (tmp_path / "nut" / "deeper").mkdir()

    def refusing(path):
        if str(path).endswith("deeper"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    with pytest.raises(UserError, match="Permission denied: .*deeper"):
        opened(tmp_path)
