"""Sets are reproducible, well formed and free of leaks; damaged files are named."""

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from pyfront import datasets
from pyfront.datasets import choose_kind, multi_digits, multi_mnist, read_idx

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
needs_mnist = pytest.mark.skipif(
    not (SHARED / "mnist").is_dir(), reason="MNIST: no ../shared/data/mnist beside the checkout"
)


def idx(array, code=8):
    head = bytes([0, 0, code, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return head + array.astype(np.uint8).tobytes()


def write_mnist(folder, *, count=40, compress=False, level=100):
    """Four small files: every item is a constant picture; item k has the label k % 10."""
    folder.mkdir(parents=True, exist_ok=True)
    labels = np.arange(count) % 10
    images = np.full((count, 28, 28), level)
    for prefix in ("train", "t10k"):
        for name, array in (("images-idx3", images), ("labels-idx1", labels)):
            data = idx(array)
            name = f"{prefix}-{name}-ubyte" + (".gz" if compress else "")
            (folder / name).write_bytes(gzip.compress(data) if compress else data)
    return folder


def test_multi_digits_shapes_ranges_and_seed():
    pytest.importorskip("sklearn")
    data = multi_digits(train=300, test=100)
    assert data.train_images.shape == (300, 1, 12, 12)
    assert data.test_labels.shape == (100, 2)
    assert data.train_images.dtype == torch.float32
    assert data.train_images.min() == 0.0
    assert data.train_images.max() == 1.0
    assert (data.train_labels[:, 0] != data.train_labels[:, 1]).all()
    assert set(data.train_labels.flatten().tolist()) == set(range(10))
    again, other = multi_digits(train=300, test=100), multi_digits(train=300, test=100, seed=1)
    assert torch.equal(data.train_images, again.train_images)
    assert not torch.equal(data.train_images, other.train_images)


def test_multi_digits_trains_and_tests_on_disjoint_digits(monkeypatch):
    pytest.importorskip("sklearn")
    seen = []
    pairs = datasets._pairs

    def record(first, *args, **keywords):
        seen.append({image.tobytes() for image in first[0]})
        return pairs(first, *args, **keywords)

    monkeypatch.setattr(datasets, "_pairs", record)
    multi_digits(train=10, test=10)
    assert len(seen) == 2
    assert sum(map(len, seen)) > 1700  # of 1797
    assert not seen[0] & seen[1]


def test_two_items_overlap_in_the_middle_and_keep_their_corners():
    bright = (np.full((1, 28, 28), 200, np.uint8), np.array([3], np.uint8))
    dark = (np.full((1, 28, 28), 90, np.uint8), np.array([7], np.uint8))
    rng = np.random.default_rng(0)
    pictures, labels = datasets._pairs(bright, dark, 500, canvas=36, shift=4, rng=rng)
    assert (labels == [3, 7]).all()
    assert (pictures[:, 8:28, 8:28] == 200).all()  # the brighter pixel wins where both lie
    assert (pictures[:, 4:28, 4:28] == 200).all()
    assert (pictures[:, 28:32, 28:32] < 200).sum() > 0
    assert (pictures[:, 32:, :4] == 0).all()  # nothing in the other two corners
    assert (pictures[:, :4, 32:] == 0).all()
    assert ((pictures == 200).sum(axis=(1, 2)) == 28 * 28).all()  # the top item is whole
    first_rows = (pictures == 200).any(axis=2).argmax(axis=1)
    assert sorted(set(first_rows.tolist())) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("sub", ["", "mnist"])
def test_folders_of_idx_files(tmp_path, sub, compress):
    write_mnist(tmp_path / sub, compress=compress)
    data = multi_mnist(tmp_path, train=50, test=20)
    assert data.name == "multi-mnist"
    assert data.train_images.shape == (50, 1, 28, 28)
    assert data.test_labels.shape == (20, 2)
    assert (data.train_labels[:, 0] != data.train_labels[:, 1]).all()
    assert data.train_images.min() == 0.0
    assert data.train_images.max().item() == pytest.approx(100.0 / 255.0, rel=1e-6)
    assert torch.equal(data.test_images, multi_mnist(tmp_path, train=50, test=20).test_images)


def test_fashion_and_mnist_take_their_own_corner(tmp_path):
    write_mnist(tmp_path / "mnist", level=10)
    write_mnist(tmp_path / "fashion-mnist", level=200)
    images = multi_mnist(tmp_path, kind="multi-fashion-mnist", train=200, test=5).train_images
    for pixel, level in ((0, 10), (27, 200)):  # reached by one of the two items only
        assert images[:, 0, pixel, pixel].max().item() == pytest.approx(level / 255.0, rel=1e-5)
        assert images[:, 0, pixel, pixel].min() == 0.0  # and not always: items move


def test_which_set_a_folder_gives(tmp_path):
    write_mnist(tmp_path / "a" / "fashion-mnist")
    assert choose_kind(tmp_path / "a") == "multi-fashion"
    assert choose_kind(tmp_path / "a" / "fashion-mnist") == "multi-fashion"
    write_mnist(tmp_path / "a" / "mnist")
    assert choose_kind(tmp_path / "a") == "multi-mnist"
    assert choose_kind(tmp_path / "a" / "mnist") == "multi-mnist"
    with pytest.raises(FileNotFoundError, match="no such folder"):
        choose_kind(tmp_path / "missing")
    with pytest.raises(FileNotFoundError, match="neither a folder 'mnist' nor idx files"):
        choose_kind(tmp_path)


LABELS = idx(np.arange(20) % 10)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not an idx file"),
        (b"PNG image", "not an idx file"),
        (b"\0\0\x08\0", "not an idx file"),
        (idx(np.zeros(4), code=13), "idx type 0x0d"),
        (LABELS[:6], "truncated: 6 bytes, its header alone has 8"),
        (LABELS[:-3], "truncated: 17 bytes of data, its header says 20"),
        (LABELS + b"x", "too long: 21 bytes of data, its header says 20"),
        (b"\0\0\x08\x03" + b"\xff" * 12, "truncated: 0 bytes of data"),
        (gzip.compress(LABELS, mtime=0)[:-6], "damaged gzip"),
        (b"\x1f\x8bnot gzip at all", "damaged gzip"),
    ],
)
def test_damaged_files_are_named(tmp_path, content, message):
    path = tmp_path / "train-labels-idx1-ubyte"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message) as error:
        read_idx(path)
    assert str(path) in str(error.value)


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        ("train-images-idx3-ubyte", np.zeros((40, 8, 8)), r"shape \(40, 8, 8\)"),
        ("train-images-idx3-ubyte", np.zeros((0, 28, 28)), r"shape \(0, 28, 28\)"),
        ("t10k-labels-idx1-ubyte", np.zeros(39), r"shape \(39,\), expected \(40,\)"),
        ("train-labels-idx1-ubyte", np.full(40, 11), "label 11"),
    ],
)
def test_foreign_files_are_named(tmp_path, name, array, message):
    write_mnist(tmp_path)
    (tmp_path / name).write_bytes(idx(array))
    with pytest.raises(ValueError, match=message) as error:
        multi_mnist(tmp_path, train=5, test=5)
    assert name in str(error.value)


def test_other_errors(tmp_path):
    write_mnist(tmp_path)
    with pytest.raises(ValueError, match="kind = 'cifar'"):
        multi_mnist(tmp_path, kind="cifar")
    with pytest.raises(ValueError, match="number of pictures = 0"):
        multi_mnist(tmp_path, train=0)
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(idx(np.zeros(40)))
    with pytest.raises(ValueError, match="same label"):
        multi_mnist(tmp_path, train=5)
    (tmp_path / "t10k-images-idx3-ubyte").unlink()
    write_labels = idx(np.arange(40) % 10)
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(write_labels)
    with pytest.raises(FileNotFoundError, match="t10k-images-idx3-ubyte: missing"):
        multi_mnist(tmp_path, train=5)


@needs_mnist
@pytest.mark.parametrize("kind", datasets.KINDS)
def test_the_sets_of_the_papers(kind):
    data = multi_mnist(SHARED, kind=kind, train=2000, test=500)
    assert data.train_images.shape == (2000, 1, 28, 28)
    assert data.train_images.min() >= 0.0
    assert 0.9 < data.train_images.max() <= 1.0
    assert (data.train_labels.flatten().bincount() > 250).all()
    same = data.train_labels[:, 0] == data.train_labels[:, 1]
    assert same.any() == (kind == "multi-fashion-mnist")
