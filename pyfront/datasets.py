"""Two-task image sets: two overlapping items per picture, each with its label.

`multi_digits` needs no download (scikit-learn bundles its 8 × 8 digits); `multi_mnist` makes the
three sets of the papers from MNIST and Fashion-MNIST files on the disk.
"""

import gzip
import zlib
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pyfront._utils.extras import import_extra

__all__ = ["KINDS", "TwoItems", "choose_kind", "multi_digits", "multi_mnist", "read_idx"]

#: kind → sources of the items top-left (task 1) and bottom-right (task 2).
KINDS: dict[str, tuple[str, str]] = {
    "multi-mnist": ("mnist", "mnist"),
    "multi-fashion": ("fashion-mnist", "fashion-mnist"),
    "multi-fashion-mnist": ("mnist", "fashion-mnist"),
}
_CLASSES = 10
_UBYTE = 8  # the idx type code of uint8

Items = tuple[NDArray[np.uint8], NDArray[np.uint8]]  # images [N, h, w], labels [N]


@dataclass(frozen=True)
class TwoItems:
    """Pictures [N, 1, h, w] float32 in [0, 1], and labels [N, 2] int64: top-left, bottom-right.

    Args:
        name: of the set.
        train_images: as above, and so ``test_images``.
        train_labels: as above, and so ``test_labels``.

    Example:
        >>> data = multi_digits(train=8, test=4)
        >>> data.name, tuple(data.train_labels.shape)
        ('multi-digits', (8, 2))
    """

    name: str
    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor


def multi_digits(*, train: int = 20_000, test: int = 5_000, seed: int = 0) -> TwoItems:
    """Make a small MultiMNIST from the 1797 digits of 8 × 8 pixels that scikit-learn bundles.

    Two different digits on a 12 × 12 canvas, one in the top-left and one in the bottom-right
    corner, each moved by up to one pixel towards the other; the brighter pixel wins. Training and
    test pictures come from disjoint digits (70% and 30% of them).

    Args:
        train: number of training pictures, ≥ 1.
        test: number of test pictures, ≥ 1.
        seed: fixes the split, the pairs and the places.

    Returns:
        The set, 12 × 12 pictures.

    Raises:
        ImportError: scikit-learn is not installed.
        ValueError: a count below 1.

    Example:
        >>> multi_digits(train=8, test=4).train_images.shape
        torch.Size([8, 1, 12, 12])

    Source: the recipe of Sabour et al. 2017 and Lin et al. 2019 (MultiMNIST), on other digits.
    """
    digits = import_extra("sklearn.datasets", "demo").load_digits()
    images = np.rint(digits.images * (255.0 / 16.0)).astype(np.uint8)
    labels = digits.target.astype(np.uint8)
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(labels))
    cut = round(0.7 * len(labels))
    split = [(images[part], labels[part]) for part in (order[:cut], order[cut:])]
    pictures = [
        _pairs(items, items, count, canvas=12, shift=1, rng=rng)
        for items, count in zip(split, (train, test), strict=True)
    ]
    return _two_items("multi-digits", pictures, size=12)


def multi_mnist(
    directory: str | PathLike[str],
    *,
    kind: str = "multi-mnist",
    train: int = 120_000,
    test: int = 20_000,
    seed: int = 0,
) -> TwoItems:
    """Make MultiMNIST, MultiFashion or Multi-Fashion+MNIST from idx files on the disk.

    Two items of different labels (of any labels for `multi-fashion-mnist`) on a 36 × 36 canvas,
    one in the top-left and one in the bottom-right corner, each moved by up to 4 pixels towards
    the other; the brighter pixel wins; then resized to 28 × 28. Training pictures use the training
    files only, test pictures the test files only.

    Args:
        directory: holds the four idx files (`train-images-idx3-ubyte`, …, gzipped or not), or
            folders `mnist` and `fashion-mnist` that hold them.
        kind: one of `KINDS`.
        train: number of training pictures, ≥ 1.
        test: number of test pictures, ≥ 1.
        seed: fixes the pairs and the places.

    Returns:
        The set, 28 × 28 pictures.

    Raises:
        FileNotFoundError: no folder, or a file of the four is missing.
        ValueError: an unknown kind, a count below 1, or a file that is truncated or is not what
            its name says; the message names the file.

    Example:
        >>> import tempfile
        >>> def idx(*shape):  # a small file in the layout of the real ones
        ...     values = np.arange(np.prod(shape)) % 10
        ...     head = bytes([0, 0, 8, len(shape)]) + np.array(shape, dtype=">u4").tobytes()
        ...     return head + values.astype(np.uint8).tobytes()
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     for part in ("train", "t10k"):
        ...         images = Path(folder) / f"{part}-images-idx3-ubyte"
        ...         size = images.write_bytes(idx(20, 28, 28))
        ...         labels = Path(folder) / f"{part}-labels-idx1-ubyte"
        ...         size = labels.write_bytes(idx(20))
        ...     multi_mnist(folder, train=8, test=4).train_images.shape
        torch.Size([8, 1, 28, 28])

    Source: Lin et al. 2019, section 6.1; Lin et al. 2020, appendix (36 × 36). The published sets
    were drawn with unpublished seeds, so these have the same distribution, not the same pictures.
    """
    if kind not in KINDS:
        raise ValueError(f"kind = {kind!r}: expected one of {', '.join(KINDS)}")
    folders = [_folder(Path(directory), source) for source in KINDS[kind]]
    rng = np.random.default_rng(seed)
    pictures = []
    for prefix, count in (("train", train), ("t10k", test)):
        first = _load_items(folders[0], prefix)
        second = first if folders[1] == folders[0] else _load_items(folders[1], prefix)
        pictures.append(_pairs(first, second, count, canvas=36, shift=4, rng=rng))
    return _two_items(kind, pictures, size=28)


def choose_kind(directory: str | PathLike[str]) -> str:
    """Choose the default kind for a folder.

    `multi-mnist` if it has a folder `mnist`, otherwise `multi-fashion` if it has a folder
    `fashion-mnist`. A folder that holds the idx files itself is taken for MNIST, unless its name
    contains "fashion": the files of the two sets have the same names.

    Args:
        directory: what :func:`multi_mnist` is given.

    Raises:
        FileNotFoundError: none of the three; the message names the folder.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     (Path(folder) / "fashion-mnist").mkdir()
        ...     choose_kind(folder)
        'multi-fashion'
    """
    root = Path(directory)
    if (root / "mnist").is_dir():
        return "multi-mnist"
    if (root / "fashion-mnist").is_dir():
        return "multi-fashion"
    _folder(root, "mnist")
    return "multi-fashion" if "fashion" in root.resolve().name.lower() else "multi-mnist"


def read_idx(path: str | PathLike[str]) -> NDArray[np.uint8]:
    """Read an idx file of unsigned bytes, gzipped or not (by its content, not its name).

    Layout: bytes 0, 0, 8 (uint8), number of dimensions; the dimensions as big-endian uint32; data.

    Args:
        path: the file.

    Returns:
        The array, in the shape that the header gives.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not idx, another element type, or too few or too many bytes; names the file.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / "labels-idx1-ubyte"
        ...     size = path.write_bytes(bytes([0, 0, 8, 1, 0, 0, 0, 3, 7, 8, 9]))
        ...     read_idx(path).tolist()
        [7, 8, 9]
    """
    content = Path(path).read_bytes()
    if content[:2] == b"\x1f\x8b":
        try:
            content = gzip.decompress(content)
        except (EOFError, OSError, zlib.error) as error:
            raise ValueError(f"{path}: damaged gzip file ({error})") from error
    if len(content) < 4 or content[:2] != b"\0\0" or content[3] == 0:
        raise ValueError(f"{path}: not an idx file (it starts with {content[:4]!r})")
    if content[2] != _UBYTE:
        raise ValueError(f"{path}: idx type {content[2]:#04x}, expected unsigned bytes (0x08)")
    header = 4 + 4 * content[3]
    if len(content) < header:
        raise ValueError(f"{path}: truncated: {len(content)} bytes, its header alone has {header}")
    shape = np.frombuffer(content, dtype=">u4", count=content[3], offset=4).tolist()
    expected, found = int(np.prod(shape, dtype=object)), len(content) - header
    if found != expected:
        what = "truncated" if found < expected else "too long"
        raise ValueError(f"{path}: {what}: {found} bytes of data, its header says {expected}")
    return np.frombuffer(content, dtype=np.uint8, offset=header).reshape(shape)


def _folder(root: Path, source: str) -> Path:
    """Find the folder with the idx files of `source`: root/source, or root itself."""
    if not root.is_dir():
        raise FileNotFoundError(f"{root}: no such folder")
    if (root / source).is_dir():
        return root / source
    if any(root.glob("*-ubyte*")):
        return root
    raise FileNotFoundError(f"{root}: holds neither a folder {source!r} nor idx files")


def _load_items(folder: Path, prefix: str) -> Items:
    """Read images [N, 28, 28] and labels [N] of the training or test part of a set."""
    paths = []
    for name in (f"{prefix}-images-idx3-ubyte", f"{prefix}-labels-idx1-ubyte"):
        found = [p for p in (folder / f"{name}.gz", folder / name) if p.is_file()]
        if not found:
            raise FileNotFoundError(f"{folder / name}: missing, gzipped or not")
        paths.append(found[0])
    images, labels = read_idx(paths[0]), read_idx(paths[1])
    if images.ndim != 3 or images.shape[1:] != (28, 28) or len(images) == 0:
        raise ValueError(f"{paths[0]}: shape {images.shape}, expected (N, 28, 28)")
    if labels.shape != (len(images),):
        raise ValueError(f"{paths[1]}: shape {labels.shape}, expected ({len(images)},)")
    if labels.max() >= _CLASSES:
        raise ValueError(f"{paths[1]}: label {labels.max()}, expected 0 to {_CLASSES - 1}")
    return images, labels


def _pairs(
    first: Items, second: Items, count: int, *, canvas: int, shift: int, rng: np.random.Generator
) -> Items:
    """Make pictures [count, canvas, canvas] of an item of each, and their labels [count, 2]."""
    if count < 1:
        raise ValueError(f"number of pictures = {count}: expected at least 1")
    i = rng.integers(len(first[0]), size=count)
    j = rng.integers(len(second[0]), size=count)
    if first is second:
        if len(np.unique(first[1])) < 2:
            raise ValueError("all items have the same label: no pair of different ones")
        while len(same := np.flatnonzero(first[1][i] == first[1][j])):
            j[same] = rng.integers(len(second[0]), size=len(same))
    pictures = np.zeros((count, canvas, canvas), dtype=np.uint8)
    size = first[0].shape[1]
    for images, chosen, corner in ((first[0], i, 0), (second[0], j, canvas - size - shift)):
        top, left = corner + rng.integers(shift + 1, size=(2, count, 1))
        place = (
            np.arange(count)[:, None, None],
            (top + np.arange(size))[:, :, None],
            (left + np.arange(size))[:, None, :],
        )
        pictures[place] = np.maximum(pictures[place], images[chosen])
    return pictures, np.stack([first[1][i], second[1][j]], axis=1)


def _two_items(name: str, pictures: list[Items], *, size: int) -> TwoItems:
    """Convert the training and the test part to tensors, resized to size × size."""
    tensors: list[Tensor] = []
    for images, labels in pictures:
        x = torch.from_numpy(images)[:, None].float() / 255.0
        if x.shape[-1] != size:
            x = torch.nn.functional.interpolate(
                x, (size, size), mode="bilinear", align_corners=False, antialias=True
            )
        tensors += [x.contiguous(), torch.from_numpy(labels).long()]
    return TwoItems(name, *tensors)
