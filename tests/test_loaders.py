"""Data sets and loaders: what they give is measured as the array of it would be."""

from __future__ import annotations

import builtins
import subprocess
import sys
import warnings
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import zeromean as zm
from zeromean.errors import PatternError, SkippedWarning, SourceError, ZeromeanWarning
from zeromean.sources.opening import Options, open_source

CIFAR = Path(__file__).parents[2] / "shared" / "data" / "cifar10-train-5k"
FIRST, LAST = "n c h w -> c", "n h w c -> c"
RNG = np.random.default_rng(4)
PICTURES = RNG.integers(0, 256, (23, 3, 5, 6), dtype=np.uint8)
LABELS = np.arange(23) % 4
ROWS = RNG.standard_normal((23, 7)).astype(np.float32)


class Plain:
    """A data set of no library: asked by number."""

    def __init__(self, samples, broken=()):
        self.samples, self.broken = samples, set(broken)

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, i):
        if i in self.broken:
            raise ValueError(f"cannot decode\nsample {i}")
        return self.samples[i]


class TensorFlowLike:
    """What a ``tf.data.Dataset`` can do."""

    def __init__(self, elements, shape=None):
        self.elements = elements
        self.element_spec = (namedtuple("Spec", "shape")(shape), None)

    def as_numpy_iterator(self):
        return iter(self.elements)

    def __iter__(self):
        raise AssertionError("its tensors are not asked for")


# ---------------------------------------------------------------- elements of all forms


FORMS = {
    "tuples": (list(zip(PICTURES, LABELS, strict=True)), {}),
    "generator of tuples": (lambda: zip(PICTURES, LABELS, strict=True), {}),
    "dicts": ([{"image": x, "label": y} for x, y in zip(PICTURES, LABELS, strict=True)], {}),
    "odd dicts": ([{"scan": x, "age": 3, "id": "a"} for x in PICTURES], {}),
    "key": ([{"a": x, "b": x * 0} for x in PICTURES], {"key": "a"}),
    "key of a tuple": ([(0, "name", x) for x in PICTURES], {"key": "2"}),
    "nested key": ([{"left": {"a/b": x}, "n": (1, 2)} for x in PICTURES], {"key": "left/a/b"}),
    "deep": ([({"x": x, "mask": "none"}, 3) for x in PICTURES], {}),
    "nested": ([((x, "name"), 3) for x in PICTURES], {}),
    "by number": (Plain([(x, 1) for x in PICTURES]), {}),
    "by number, alone": (Plain(PICTURES), {}),
    "batches": ([(PICTURES[:9], 0), (PICTURES[9:], 0)], {}),
    "unequal lists": ([(list(PICTURES[:9]), 0), (tuple(PICTURES[9:]), 0)], {}),
    "tensorflow": (TensorFlowLike([(x.transpose(1, 2, 0), 1) for x in PICTURES]), {"last": True}),
    "tensorflow batches": (
        TensorFlowLike([{"image": PICTURES[:20]}, {"image": PICTURES[20:]}], (None, 3, 5, 6)),
        {},
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_bits_of_the_array(form):
    """With the pattern given, and without it."""
    source, options = FORMS[form]
    options = dict(options)
    last = options.pop("last", False)
    array = PICTURES.transpose(0, 2, 3, 1) if last else PICTURES
    pattern = LAST if last else FIRST
    expected = zm.measure(array, pattern)

    def made():
        return source() if callable(source) else source

    assert zm.measure(made(), pattern, **options) == expected
    assert zm.measure(made(), **options) == expected
    assert zm.measure(made(), pattern, **options).provenance.items == 23
    pixels = pattern.partition(">")[0] + "> c h w"
    assert zm.measure(made(), pixels, **options) == zm.measure(array, pixels)


def test_the_check_of_bits_can_fail():
    wrong = PICTURES.copy()
    wrong[3, 1, 2, 2] += 1
    assert zm.measure([(x, 1) for x in wrong]) != zm.measure(PICTURES, FIRST)


def test_other_dtypes_and_shapes():
    assert zm.measure([(row, 1) for row in ROWS], "n d -> d") == zm.measure(ROWS)
    assert zm.measure(Plain(ROWS)) == zm.measure(ROWS)
    assert zm.measure(Plain(ROWS[:, 0].tolist())) == zm.measure(ROWS[:, 0].astype(float))
    unequal = [(np.full((3, h, 2), h, np.float64), 0) for h in (2, 5, 1)]
    flat = np.concatenate([x.reshape(3, -1) for x, _ in unequal], axis=1)
    assert (zm.measure(unequal).mean == flat.mean(axis=1)).all()


def test_pictures_of_pil(tmp_path):
    images = [Image.fromarray(x.transpose(1, 2, 0)) for x in PICTURES]
    for i, image in enumerate(images):
        image.save(tmp_path / f"{i:02}.png")
    expected = zm.measure(tmp_path)
    assert zm.measure([(image, 0) for image in images]) == expected
    assert zm.measure(Plain([{"image": image} for image in images])) == expected
    gray = zm.measure([(image, 0) for image in images], colors="gray")
    assert gray == zm.measure(tmp_path, colors="gray")


# ---------------------------------------------------------------- what is not clear


@pytest.mark.parametrize(
    ("element", "match"),
    [
        (
            {"a": np.zeros((2, 2), np.float32), "b": np.zeros((3, 3), np.uint8), "n": 5},
            r"item 0: 2 parts may be the data; say which: key='a' \(--key\). It has "
            r"\{'a': float32 \(2, 2\), 'b': uint8 \(3, 3\), 'n': int\}",
        ),
        ({"image": PICTURES[0], "x": PICTURES[0]}, "2 parts may be the data"),
        (
            {"ids": np.zeros(5, int), "name": "a"},
            r"no part is surely the data; .*'ids': int64 \(5,",
        ),
        (("text", 3), r"item 0 is str, in which no array is found; say which .* key="),
        ((None, 3), "item 0 is NoneType"),
        (({}, 3), "no part is surely the data"),
    ],
)
def test_unclear_elements_are_errors_that_list_what_there_is(element, match):
    with pytest.raises(PatternError, match=match):
        zm.measure([element])


def test_a_wrong_key_is_named_with_what_there_is():
    for source in ([{"image": PICTURES[0], "y": 1}], Plain([{"image": PICTURES[0], "y": 1}])):
        with pytest.raises(PatternError, match=r"item 0 has no part 'img': it is \{'image': uint8"):
            zm.measure(source, FIRST, key="img")
    with pytest.raises(PatternError, match=r"has no part '7': it is \(uint8 \(3, 5, 6\), int\)"):
        zm.measure([(PICTURES[0], 1)], key="7")


@pytest.mark.parametrize(
    ("source", "match"),
    [
        ([(np.zeros((28, 28)), 1)], r"shape \(28, 28\), .* such as 'n h w ->' or 'n d -> d'"),
        (Plain([np.zeros((28, 28))]), r"item 0 of Plain .* 'n h w ->' or 'n t f -> f'"),
        ([(np.zeros(7), 1)], r"'n d -> d' or 'n ->'"),
        ([(np.zeros((9, 8, 7)), 1)], r"'n h w c -> c' or 'n c h w -> c'"),
        ([(np.zeros((2, 9, 8, 7)), 1)], r"'n h w c -> c' or 'n c h w -> c'"),
        (Plain([np.zeros((2, 3, 8, 7))]), r"such as"),
    ],
)
def test_without_a_pattern_two_likely_ones_are_shown(source, match):
    with pytest.raises(PatternError, match=match):
        zm.measure(source)


def test_what_does_not_fit_the_pattern_is_named():
    with pytest.raises(PatternError, match="item 1"):
        zm.measure([(ROWS[0], 0), (PICTURES[0], 0)], "n d -> d")
    with pytest.raises(SourceError, match="Endless has no length"):
        zm.measure(type("Endless", (Plain,), {"__len__": lambda self: [] + 1})([]))
    with pytest.raises(SourceError, match="there is nothing to measure"):
        zm.measure(Plain([]))


# ---------------------------------------------------------------- failures


def test_a_sample_that_raises_is_skipped_by_its_number():
    data = Plain([(x, 1) for x in PICTURES], broken=[0, 5, 22])
    with pytest.warns(SkippedWarning, match="skipped 3"):
        profile = zm.measure(data)
    kept = [i for i in range(23) if i not in data.broken]
    assert profile == zm.measure(PICTURES[kept], FIRST)
    assert profile.provenance.skipped == tuple(
        (f"item {i}", f"ValueError: cannot decode sample {i}") for i in (0, 22, 5)
    )
    with pytest.raises(SourceError, match="item 0: ValueError: cannot decode sample 0"):
        zm.measure(data, FIRST, strict=True)
    with pytest.raises(SourceError, match=r"none of 2 files could be measured; the first, item 0"):
        zm.measure(Plain([1, 2], broken=[0, 1]), FIRST)


def test_an_iterable_that_raises_stops_with_its_place():
    def broken():
        yield PICTURES[0], 1
        yield PICTURES[1], 1
        raise RuntimeError("disk on fire")

    with pytest.raises(
        SourceError, match="items failed at item 2: RuntimeError: disk on fire"
    ) as e:
        zm.measure(broken(), FIRST)
    assert isinstance(e.value.__cause__, RuntimeError)
    with pytest.raises(KeyboardInterrupt):
        zm.measure(Plain(_Interrupting()), FIRST)


class _Interrupting:
    def __len__(self):
        return 3

    def __getitem__(self, i):
        raise KeyboardInterrupt


# ---------------------------------------------------------------- limit, labels, reading once


def test_limit_takes_samples():
    """Spread over what is asked by number; the first ones of what comes one after the other."""
    chosen = [2, 8, 14, 20]
    data = Plain([(x, 1) for x in PICTURES])
    profile = zm.measure(data, limit=4)
    assert profile == zm.measure(PICTURES[chosen], FIRST)
    assert profile.provenance.sources == ("Plain (a quick look at 4 of 23)",)
    assert zm.measure(data, limit=99) == zm.measure(PICTURES, FIRST)
    assert zm.measure([(x, 1) for x in PICTURES], limit=4) == zm.measure(PICTURES[:4], FIRST)
    batches = [(PICTURES[i : i + 3], 0) for i in range(0, 23, 3)]
    assert zm.measure(batches, limit=7) == zm.measure(PICTURES[:7], FIRST)

    def endless():
        while True:
            yield PICTURES[0], 1

    assert zm.measure(endless(), limit=50).provenance.items == 50


def test_groups_by_the_labels_that_are_there():
    expected = zm.measure(PICTURES, FIRST, by=LABELS)
    pairs = list(zip(PICTURES, LABELS.tolist(), strict=True))
    batches = [(PICTURES[:9], LABELS[:9]), (PICTURES[9:], LABELS[9:])]
    dicts = [{"image": x, "target": y, "site": "a"} for x, y in pairs]
    for source in (pairs, Plain(pairs), batches, dicts, Plain(dicts), iter(pairs)):
        assert zm.measure(source, FIRST, by="class") == expected
    assert zm.measure(dicts, by="target") == expected
    assert list(zm.measure(dicts, by="site")) == ["a"]
    assert zm.measure(Plain(pairs), by=LABELS) == expected
    few = zm.measure(PICTURES[[2, 8, 14, 20]], FIRST, by=LABELS[[2, 8, 14, 20]])
    assert zm.measure(Plain(pairs), by=LABELS, limit=4) == few
    assert zm.measure(Plain(pairs), by="class", limit=4) == few
    with pytest.raises(PatternError, match="has no part 'age'"):
        zm.measure(pairs, by="age")
    with pytest.raises(PatternError, match=r"labels of shape \(5,\) for 9 samples"):
        zm.measure([(PICTURES[:9], LABELS[:5])], by="class")


def test_everything_is_read_once():
    """Also what is looked at to find the pattern."""
    asked = []

    class Counting(Plain):
        def __getitem__(self, i):
            asked.append(i)
            return super().__getitem__(i)

    zm.measure(Counting([(x, 1) for x in PICTURES]))
    assert asked == list(range(23))

    def once():
        for i, x in enumerate(PICTURES):
            asked.append(i)
            yield x, 1

    asked.clear()
    zm.measure(once())
    assert asked == list(range(23))


def test_a_buffer_may_be_filled_again_and_again():
    buffer = np.empty((3, 5, 6), np.uint8)

    def filling():
        for x in PICTURES:
            buffer[...] = x
            yield {"image": buffer}

    assert zm.measure(filling()) == zm.measure(PICTURES, FIRST)


def test_strangers_are_asked_for_numpy():
    """An object with ``.numpy()``, as TensorFlow's and others' tensors are."""

    class Tensor:
        def __init__(self, x):
            self.x, self.shape, self.dtype = x, x.shape, x.dtype

        def numpy(self):
            return self.x

    assert zm.measure([(Tensor(x), 1) for x in PICTURES]) == zm.measure(PICTURES, FIRST)


def test_no_library_is_imported():
    """What is measured brings its own; torch is not needed, even for what looks like its own."""
    code = (
        "import sys, numpy as np, zeromean as zm\n"
        "zm.measure([(np.zeros((3, 4, 4), np.uint8), 1)])\n"
        "print([m for m in ('torch', 'tensorflow', 'grain', 'jax') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# ---------------------------------------------------------------- PyTorch

torch = pytest.importorskip("torch")
from torch.utils.data import (  # noqa: E402
    DataLoader,
    Dataset,
    IterableDataset,
    SequentialSampler,
    Subset,
    TensorDataset,
    WeightedRandomSampler,
)

TENSORS = torch.from_numpy(PICTURES)
LABELED = TensorDataset(TENSORS, torch.from_numpy(LABELS))


class Dicts(Dataset):
    def __len__(self):
        return len(PICTURES)

    def __getitem__(self, i):
        return {"pixel_values": TENSORS[i], "labels": int(LABELS[i])}


class Stream(IterableDataset):
    def __iter__(self):
        info = torch.utils.data.get_worker_info()
        step = (0, 1) if info is None else (info.id, info.num_workers)
        yield from ((TENSORS[i], i) for i in range(step[0], len(PICTURES), step[1]))


class Broken(Dataset):
    def __len__(self):
        return 6

    def __getitem__(self, i):
        if i == 3:
            raise ValueError("bad sample")
        return TENSORS[i]


TORCH = {
    "dataset": LABELED,
    "subset": Subset(LABELED, range(23)),
    "dataset of dicts": Dicts(),
    "stream": Stream(),
    "loader": DataLoader(LABELED, batch_size=4),
    "shuffled": DataLoader(LABELED, batch_size=5, shuffle=True),
    "loader of dicts": DataLoader(Dicts(), batch_size=3),
    "loader of a stream": DataLoader(Stream(), batch_size=5),
    "loader without batches": DataLoader(LABELED, batch_size=None),
}


@pytest.mark.parametrize("name", TORCH)
def test_torch_is_measured_as_the_array(name):
    """The same bits as the array, and as zeromean.torch.measure."""
    source = TORCH[name]
    expected = zm.measure(PICTURES, FIRST)
    assert zm.measure(source) == zm.measure(source, FIRST) == expected
    from zeromean.torch import measure

    pick = "pixel_values" if "dicts" in name else None
    assert measure(source, FIRST, pick=pick) == expected


def test_a_loader_brings_its_own_workers():
    options = {"batch_size": 4, "num_workers": 2, "multiprocessing_context": "spawn"}
    assert zm.measure(DataLoader(Stream(), **options)) == zm.measure(PICTURES, FIRST)


def test_what_the_sampler_draws_is_measured():
    """Weights and repetitions count: it is what the network sees."""
    torch.manual_seed(1)
    sampler = WeightedRandomSampler([1.0] + [0.1] * 22, 100, replacement=True)
    drawn = []

    class Noting(Dataset):
        def __len__(self):
            return 23

        def __getitem__(self, i):
            drawn.append(i)
            return TENSORS[i]

    loader = DataLoader(Noting(), batch_size=8, sampler=sampler)
    profile = zm.measure(loader)
    assert len(drawn) == 100
    assert drawn.count(0) > 10
    assert profile == zm.measure(PICTURES[drawn], FIRST)
    assert open_source(loader, None, Options())[0].n_items == 100


def test_drop_last_is_said():
    loader = DataLoader(LABELED, batch_size=5, drop_last=True)
    with pytest.warns(ZeromeanWarning, match="leaves out the last 3 of 23 samples"):
        profile = zm.measure(loader)
    assert profile == zm.measure(PICTURES[:20], FIRST)
    sampler = SequentialSampler(LABELED)
    assert zm.measure(DataLoader(LABELED, batch_size=5, sampler=sampler)).provenance.items == 23


def test_default_patterns_of_torch():
    table = TensorDataset(torch.from_numpy(ROWS), torch.zeros(23))
    assert zm.measure(DataLoader(table, batch_size=4)) == zm.measure(ROWS)
    assert zm.measure(table) == zm.measure(ROWS)
    numbers = TensorDataset(torch.from_numpy(ROWS[:, 0].copy()))
    assert zm.measure(DataLoader(numbers, batch_size=4)) == zm.measure(ROWS[:, 0])
    thin = torch.from_numpy(
        PICTURES[:, :, :3, :3].copy()
    )  # channels may be anywhere: as torch does
    assert str(zm.measure(DataLoader(TensorDataset(thin))).pattern) == FIRST
    for source in (
        DataLoader(TensorDataset(torch.zeros(4, 9, 9))),
        DataLoader(TensorDataset(torch.zeros(4, 9, 9, 9))),
        TensorDataset(torch.zeros(4, 9, 9)),
        DataLoader(TensorDataset(torch.zeros(4, 2, 3, 9, 9))),
    ):
        with pytest.raises(PatternError, match=r"such as '.*' or '.*'"):
            zm.measure(source)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64", "int64", "bool", "uint8"])
def test_dtypes_of_torch(dtype):
    tensor = torch.from_numpy(ROWS).to(getattr(torch, dtype))
    from zeromean.torch import measure

    profile = zm.measure(DataLoader(TensorDataset(tensor), batch_size=4))
    assert profile.dtype == dtype
    assert profile == measure(tensor, "n d -> d")


def test_tensors_with_gradients_strides_and_odd_layouts():
    rows = torch.from_numpy(ROWS.T.copy()).T.requires_grad_(True)
    assert zm.measure([(row, 1) for row in rows], "n d -> d") == zm.measure(ROWS)
    for odd, match in (
        (torch.zeros(3, 3).to_sparse(), r"give x\.to_dense\(\)"),
        (torch.zeros(3, 3, dtype=torch.float8_e4m3fn), r"float8_e4m3fn tensor.* give x\.float\(\)"),
    ):
        with pytest.raises(PatternError, match=match):
            zm.measure([(odd, 1)], "n d -> d")


def test_tensors_elsewhere_are_moved_to_the_processor():
    """A stand-in for a tensor on a GPU: NumPy cannot look at it there."""

    class Elsewhere:
        def __init__(self, tensor):
            self.tensor = tensor
            self.shape, self.dtype, self.layout = tensor.shape, tensor.dtype, tensor.layout

        def detach(self):
            return self

        def cpu(self):
            return self.tensor

        def numpy(self):
            raise TypeError("can't convert cuda:0 device type tensor to numpy")

    batches = [(Elsewhere(TENSORS[:9]), 0), (Elsewhere(TENSORS[9:]), 0)]
    assert zm.measure(batches) == zm.measure(PICTURES, FIRST)


def test_bfloat16_without_its_package_says_so(monkeypatch):
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name.startswith("ml_dtypes"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    tensor = torch.zeros(3, 4, dtype=torch.bfloat16)
    with pytest.raises(PatternError, match=r"bfloat16 tensor.*ml_dtypes.* give x\.float\(\)"):
        zm.measure(TensorDataset(tensor), "n d -> d")


def test_broken_samples_of_torch():
    """Asked by number they are skipped; a loader cannot go on."""
    with pytest.warns(SkippedWarning):
        profile = zm.measure(Broken())
    assert profile.provenance.skipped == (("item 3", "ValueError: bad sample"),)
    assert profile == zm.measure(PICTURES[[0, 1, 2, 4, 5]], FIRST)
    loader = DataLoader(Broken(), batch_size=2)
    with pytest.raises(
        SourceError, match=r"DataLoader of Broken failed at batch 1: ValueError: bad"
    ):
        zm.measure(loader)


def test_groups_of_a_loader():
    expected = zm.measure(PICTURES, FIRST, by=LABELS)
    assert zm.measure(DataLoader(LABELED, batch_size=4), by="class") == expected
    assert zm.measure(DataLoader(Dicts(), batch_size=4, shuffle=True), by="labels") == expected
    assert zm.measure(LABELED, by="class") == expected
    assert zm.measure(DataLoader(LABELED, batch_size=4), by=LABELS) == expected


@pytest.mark.skipif(not CIFAR.exists(), reason="CIFAR is not here")
def test_a_data_set_of_cifar_is_the_folder(tmp_path):
    """As torchvision's ImageFolder gives it: PIL pictures, or uint8 tensors."""
    paths = sorted(CIFAR.rglob("*.png"))[::10]

    class Pictures(Dataset):
        def __init__(self, transform):
            self.transform = transform

        def __len__(self):
            return len(paths)

        def __getitem__(self, i):
            with Image.open(paths[i]) as image:
                return self.transform(image.convert("RGB")), i % 10

    def to_tensor(image):
        return torch.from_numpy(np.array(image)).movedim(-1, 0)

    expected = zm.measure(paths)
    assert zm.measure(Pictures(lambda image: image)) == expected
    tensors = zm.measure(DataLoader(Pictures(to_tensor), batch_size=64))
    assert np.array_equal(tensors.histogram.counts, expected.histogram.counts)
    assert (tensors.mean == expected.mean).all()
    flipped = zm.measure(DataLoader(Pictures(lambda x: to_tensor(x).flip(-1)), batch_size=64))
    assert flipped == tensors  # no number of a channel changes
    darker = zm.measure(DataLoader(Pictures(lambda x: to_tensor(x) // 2), batch_size=64))
    assert (darker.mean < tensors.mean).all()


def test_nothing_is_left_behind():
    """No worker, no thread, no warning of the library's own."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loader = DataLoader(LABELED, batch_size=4, num_workers=1, multiprocessing_context="spawn")
        zm.measure(loader, limit=3)
    import multiprocessing

    assert multiprocessing.active_children() == []
