"""Tensors are measured as arrays are, wherever they live and however many processes there are."""

from __future__ import annotations

import math
import subprocess
import sys
import warnings
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import zeromean as zm
from zeromean.accumulation import Plan
from zeromean.pattern import Pattern
from zeromean.statistics import Histogram

torch = pytest.importorskip("torch")

from torch.utils.data import (  # noqa: E402
    DataLoader,
    Dataset,
    DistributedSampler,
    IterableDataset,
    TensorDataset,
)

from strategies import DTYPES, numbers, seeds, tempers  # noqa: E402
from window_numbers import CASES, SHAPES, stressed  # noqa: E402
from zeromean.torch import (  # noqa: E402
    device_gathering,
    device_sums,
    device_windows,
    measure,
    measuring,
)
from zeromean.torch.device_counts import Counts, bucket_codes, item_sums  # noqa: E402
from zeromean.torch.device_windows import FLOAT32, FLOAT64  # noqa: E402

PATTERNS = {
    "n h w c -> c": (7, 5, 6, 3),
    "n c h w -> c": (7, 3, 6, 5),
    "n c h w -> h w": (4, 2, 5, 3),
    "n h w c -> c h": (4, 2, 5, 3),
    "n d ->": (61, 4),
    "n d -> d": (60, 5),
    "n d -> n": (3, 40),
    "... c -> c": (3, 4, 5, 2),
    "n h (g c) -> c g": (6, 3, 8),
}


@pytest.fixture(autouse=True, scope="module")
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def tensor_of(array):
    if array.dtype.name == "bfloat16":
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array)


def quiet(function, *arguments, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", zm.ZeromeanWarning)  # infinities are counted aloud
        return function(*arguments, **options)


def on_device(pattern, *tensors, quantiles=False):
    named = [(f"item {i}", tensor) for i, tensor in enumerate(tensors)]
    return device_gathering.measure_on_device(named, Plan(pattern, quantiles=quantiles))


# ---------------------------------------------------------------- what runs on a device


@pytest.mark.parametrize("dtype", DTYPES)
@settings(max_examples=12)
@given(data=st.data(), seed=seeds)
def test_the_device_path_gives_the_bits_of_the_processor(dtype, data, seed):
    """Histogram, sums, special counts, extrema, item stds and buckets; whole and in blocks."""
    text = data.draw(st.sampled_from(list(PATTERNS)))
    shape = PATTERNS[text]
    pattern = Pattern.parse(text, **({"g": 2} if "(" in text else {}))
    array = numbers(dtype, data.draw(st.sampled_from(tempers(dtype))), shape, seed)
    quantiles = dtype in ("float32", "float64")
    expected = quiet(zm.measure, array, pattern, quantiles=quantiles)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(device_gathering, "CHUNK", data.draw(st.sampled_from([1 << 21, 37])))
        patch.setattr(device_sums, "CARRY_ROWS", data.draw(st.sampled_from([1 << 24, 64])))
        found = on_device(pattern, tensor_of(array), quantiles=quantiles)
    assert found == expected
    assert found.known_extrema == expected.known_extrema
    assert found.provenance.items == expected.provenance.items


@pytest.mark.parametrize("dtype", ["uint8", "int16", "float16", "bfloat16", "float32", "int64"])
def test_the_device_path_of_many_features(dtype):
    """Too many for histograms: also small formats are summed."""
    array = numbers(dtype, "bits", (5, 5000), 1)
    expected = quiet(zm.measure, array, "n d -> d")
    found = on_device(Pattern.parse("n d -> d"), tensor_of(array))
    assert not isinstance(found.statistics, Histogram)
    assert (found, found.known_extrema) == (expected, expected.known_extrema)


@pytest.mark.parametrize("dtype", ["uint8", "float32", "float64", "int64", "bool"])
def test_the_device_path_of_no_samples(dtype):
    array = np.zeros((0, 3), dtype)
    assert on_device(Pattern.parse("n d -> d"), torch.from_numpy(array)) == zm.measure(array)


def test_limbs_carry_over_many_blocks(monkeypatch):
    """Largest mantissas, over and over, with a carry after every second block."""
    monkeypatch.setattr(device_sums, "_CARRY", 16)
    largest = np.nextafter(2.0, 0.0) * np.array([1.0, -1.0, 2.0**-500, 2.0**500])
    array = np.tile(largest, (300, 1))
    sums = device_sums.FloatSums(4, "float64", torch.device("cpu"))
    for _ in range(9):
        sums.add(torch.from_numpy(array))
    moments, _ = sums.finish()
    one = (1 << 53) - 1  # the mantissa; its exponent is -52, on the unit 2^-1074
    exponents = [0, 0, -500, 500]
    assert moments.squares.tolist() == [2700 * one**2 << 2 * (1022 + e) for e in exponents]
    assert [abs(s) for s in moments.sums.tolist()] == [2700 * one << 1022 + e for e in exponents]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("case", list(CASES))
def test_windows_give_the_bits_of_the_processor(case, dtype):
    """Whatever falls inside a window, at its edge, or outside."""
    for seed, shape in enumerate(SHAPES):
        array = stressed(case, dtype, shape, seed)
        expected = quiet(zm.measure, array, "n d -> d")
        found = on_device(Pattern.parse("n d -> d"), torch.from_numpy(array))
        assert (found, found.known_extrema) == (expected, expected.known_extrema), shape


@pytest.mark.parametrize(
    ("name", "change", "case"),
    [
        ("FLOAT32", {"low": 0}, "edges"),
        ("FLOAT32", {"rows": 2048}, "full"),
        ("FLOAT32", {"rows": 2048}, "low_parts"),
        ("FLOAT64", {"low": 7}, "edges"),
        ("FLOAT64", {"rows": 1024}, "full"),
    ],
)
def test_windows_cannot_be_larger(name, change, case, monkeypatch):
    """One bit more than what is proved, and the cases above find sums that were rounded."""
    array = stressed(case, name.lower(), (2048, 2))
    expected = zm.measure(array)
    assert on_device(Pattern.parse("n d -> d"), torch.from_numpy(array)) == expected
    monkeypatch.setattr(device_sums, name, replace(getattr(device_windows, name), **change))
    assert on_device(Pattern.parse("n d -> d"), torch.from_numpy(array)) != expected


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
@settings(max_examples=8)
@given(data=st.data(), seed=seeds)
def test_windows_of_any_size(dtype, data, seed):
    """Blocks of few rows or many, without windows, settled late or after every batch."""
    array = numbers(dtype, data.draw(st.sampled_from(tempers(dtype))), (640, 17), seed)
    rows = data.draw(st.sampled_from([1, 3, 64, 512]))
    names = ("_FEW_ROWS", "_AT_ONCE", "_CARRY", "_COPIES")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("FLOAT32", "FLOAT64"):
            patch.setattr(device_sums, name, replace(getattr(device_windows, name), rows=rows))
        for name in names:
            patch.setattr(device_sums, name, data.draw(st.sampled_from([1, 100, 1 << 21])))
        if data.draw(st.booleans()):
            patch.setattr(device_sums, "WITHOUT_FLOAT64", {"cpu"})
        found = on_device(Pattern.parse("n d -> d"), *tensor_of(array).split(200))
    assert found == quiet(zm.measure, array, "n d -> d")


def test_ordinary_values_lie_in_windows():
    """One in a thousand is added on its own, not more; none is both in the sums and rare."""
    for window, dtype in ((FLOAT32, torch.float32), (FLOAT64, torch.float64)):
        x = torch.randn(1 << 16, 1, generator=torch.manual_seed(1)).to(dtype)
        x[77] = 1e-20
        (blocks,) = window.blocks(x)
        assert blocks.shape[1] <= window.rows
        rare, exponents, integers = window.sums(blocks, blocks.abs().amax(1))
        assert 0 < rare.sum() < blocks.numel() / 1000
        kept = blocks.where(~rare, 0).to(torch.float64)
        total = sum(
            Fraction(2) ** (place + int(e) - window.top) * int(n)
            for (power, place), parts in zip(window.parts, integers, strict=True)
            for e, n in zip(exponents.flatten(), parts.flatten(), strict=True)
            if power == 1
        )
        assert total == sum(map(Fraction, kept.flatten().tolist()))


def test_plain_sums_of_float64_do_round():
    """Why there are windows: float64 holds a square of float32, but not their sum."""
    array = stressed("normal", "float32", (4096, 1))
    exact = zm.measure(array).statistics.squares[0] * Fraction(2) ** -298
    assert Fraction(float((torch.from_numpy(array).double() ** 2).sum())) != exact


@pytest.mark.parametrize("shape", [(3, 70001, 2), (2, 1 << 16, 1), (4, 65537, 1), (5, 12, 3)])
def test_items_are_summed_in_runs_that_int32_holds(shape):
    items = torch.full(shape, 255, dtype=torch.uint8)
    sums, squares = item_sums(items)
    assert (sums == 255 * shape[1]).all()
    assert (squares == 255**2 * shape[1]).all()


@pytest.mark.parametrize("rows", [3, 30, 3000])
def test_a_buffer_may_be_used_again_at_once(rows):
    """What waits to be summed is no view of the data."""
    array = numbers("float32", "wide", (rows, 2), 8)
    sums, buffer = device_sums.FloatSums(2, "float32", torch.device("cpu")), torch.from_numpy(array)
    expected = zm.measure(array).statistics
    sums.add(buffer)
    buffer.fill_(7.0)
    assert sums.finish()[0] == expected


def test_buckets_are_those_of_arrays():
    from zeromean.quantiles import codes

    for dtype in ("float32", "float64"):
        array = numbers(dtype, "bits", (4000, 1), 3)
        array[:4, 0] = [3.5e38 if dtype == "float64" else np.inf, 1e-46, -0.0, np.nan]
        expected = codes(array).view(np.int16)
        assert (bucket_codes(torch.from_numpy(array)).numpy() == expected).all()


def test_the_comparison_of_paths_can_fail():
    """One value, one bit off, is another profile."""
    array = np.array([[1.0], [2.0]])
    other = torch.tensor([[1.0], [math.nextafter(2.0, 3.0)]], dtype=torch.float64)
    assert zm.measure(array) == on_device(Pattern.parse("n d -> d"), torch.from_numpy(array))
    assert zm.measure(array) != on_device(Pattern.parse("n d -> d"), other)


def test_counts_on_the_device_are_integers():
    counts = Counts(2, "int8", torch.device("cpu"))
    counts.add(torch.tensor([[-128, 127], [-128, 0]], dtype=torch.int8))
    histogram = counts.histogram()
    assert histogram.counts.dtype == np.int64
    assert histogram.counts[0, 0] == 2
    assert histogram.counts[1, [128, 255]].tolist() == [1, 1]


# ---------------------------------------------------------------- sources

IMAGES = torch.randint(0, 256, (11, 3, 5, 4), dtype=torch.uint8, generator=torch.manual_seed(1))
EXPECTED = zm.measure(IMAGES.numpy(), "n c h w -> c")
PER_CHANNEL = "n c h w -> c"


class Dicts(Dataset):
    def __len__(self):
        return len(IMAGES)

    def __getitem__(self, i):
        return {"image": IMAGES[i], "label": i}


class Stream(IterableDataset):
    def __iter__(self):
        return iter(IMAGES)


LABELED = TensorDataset(IMAGES, torch.arange(11))
SOURCES = {
    "tensor": (IMAGES, {}),
    "channels last": (IMAGES.contiguous(memory_format=torch.channels_last), {}),
    "list of items": (list(IMAGES), {}),
    "generator of batches": (lambda: (part for part in IMAGES.split(4)), {}),
    "dataset of tuples": (LABELED, {}),
    "dataset of dicts": (Dicts(), {"pick": "image"}),
    "function": (Dicts(), {"pick": lambda item: item["image"]}),
    "second of a tuple": (TensorDataset(torch.arange(11), IMAGES), {"pick": 1}),
    "stream": (Stream(), {}),
    "loader": (DataLoader(LABELED, batch_size=4), {}),
    "loader of dicts": (DataLoader(Dicts(), batch_size=3), {"pick": "image"}),
    "loader of a stream": (DataLoader(Stream(), batch_size=5), {}),
    "loader without batches": (DataLoader(LABELED, batch_size=None), {}),
    "shuffled": (DataLoader(LABELED, batch_size=2, shuffle=True), {}),
    "moved": (IMAGES, {"device": "cpu"}),
}


@pytest.mark.parametrize("forced", [False, True], ids=["as arrays", "on the device"])
@pytest.mark.parametrize("name", sorted(SOURCES))
def test_every_source_gives_the_same_profile(name, forced, monkeypatch):
    if forced:
        monkeypatch.setattr(measuring, "needs_device", lambda tensor: True)
    source, options = SOURCES[name]
    source = source() if callable(source) and not isinstance(source, torch.Tensor) else source
    assert measure(source, PER_CHANNEL, **options) == EXPECTED


def test_a_loader_with_workers():
    loader = DataLoader(LABELED, batch_size=4, num_workers=1, multiprocessing_context="spawn")
    assert measure(loader, PER_CHANNEL) == EXPECTED


def test_items_may_be_arrays_or_pictures():
    from PIL import Image

    arrays = list(IMAGES.numpy())
    assert measure(arrays, PER_CHANNEL) == EXPECTED
    pictures = [Image.fromarray(a.transpose(1, 2, 0).copy()) for a in arrays]
    assert measure(pictures, "n h w c -> c").mean.tolist() == EXPECTED.mean.tolist()


def test_arrays_join_tensors_on_a_device(monkeypatch):
    monkeypatch.setattr(measuring, "needs_device", lambda tensor: True)
    assert measure([IMAGES[:4], IMAGES.numpy()[4:]], PER_CHANNEL) == EXPECTED


def test_units_names_and_quantiles_are_kept():
    x = torch.rand(50, 2)
    names = ("left", "right")
    for change in (lambda t: t, lambda t: t.requires_grad_()):
        found = measure(
            change(x), "n d -> d", range=(0, 1), feature_names=names, quantiles=True, channels="LR"
        )
        expected = zm.measure(
            x.detach().numpy(), range=(0, 1), feature_names=names, quantiles=True, channels="LR"
        )
        assert found == expected
        assert found.quantile_bounds(0.5)[0].shape == (2,)


@pytest.mark.parametrize("forced", [False, True], ids=["as arrays", "on the device"])
def test_covariance_is_measured_on_the_processor(forced, monkeypatch):
    if forced:
        monkeypatch.setattr(measuring, "needs_device", lambda tensor: True)
    found = measure(DataLoader(LABELED, batch_size=4), PER_CHANNEL, covariance=True)
    assert found == zm.measure(IMAGES.numpy(), PER_CHANNEL, covariance=True)
    assert found != EXPECTED


def test_bfloat16_needs_no_other_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    x = torch.arange(12.0).reshape(6, 2).to(torch.bfloat16)
    profile = measure(x, "n d -> d")
    assert profile.dtype == "bfloat16"
    assert profile.mean.tolist() == [5.0, 6.0]


@pytest.mark.parametrize("forced", [False, True], ids=["as arrays", "on the device"])
def test_infinities_are_counted_aloud(forced, monkeypatch):
    if forced:
        monkeypatch.setattr(measuring, "needs_device", lambda tensor: True)
    x = torch.tensor([[1.0], [math.inf], [math.nan]])
    with pytest.warns(zm.ZeromeanWarning, match="1 infinite"):
        profile = measure(x, "n d -> d")
    assert (profile.inf_count.tolist(), profile.nan_count.tolist()) == ([1], [1])


@pytest.mark.parametrize(
    ("source", "pattern", "options", "error", "words"),
    [
        ([], "n d -> d", {}, zm.SourceError, "the source is empty"),
        ("data/train", "n d -> d", {}, zm.SourceError, "there is zeromean.measure"),
        (Dicts(), PER_CHANNEL, {}, zm.PatternError, r"keys 'image', 'label'.*pick="),
        (Dicts(), PER_CHANNEL, {"pick": "img"}, zm.PatternError, "no part 'img'.*'image'"),
        (LABELED, PER_CHANNEL, {"pick": 2}, zm.PatternError, "no part 2: it is 2 entries"),
        (torch.zeros(3, 4), PER_CHANNEL, {}, zm.PatternError, "names 4 axes"),
        (torch.zeros(3, 2, dtype=torch.complex64), "n d -> d", {}, zm.PatternError, "x.abs()"),
        (torch.eye(3).to_sparse(), "n d -> d", {}, zm.PatternError, "x.to_dense()"),
        ([torch.zeros(3), torch.zeros(4)], "n d -> d", {}, zm.PatternError, "item 1 keeps"),
        ([torch.zeros(3), torch.ones(3).int()], "n d -> d", {}, zm.PatternError, "item 1 is int32"),
        (torch.zeros(3, 2), "n d -> d", {"feature_names": ["a"]}, zm.PatternError, "1 feature nam"),
    ],
)
@pytest.mark.parametrize("forced", [False, True], ids=["as arrays", "on the device"])
def test_errors_name_thing_and_repair(source, pattern, options, error, words, forced, monkeypatch):
    if forced:
        monkeypatch.setattr(measuring, "needs_device", lambda tensor: True)
    with pytest.raises(error, match=words):
        measure(source, pattern, **options)


# ---------------------------------------------------------------- samplers


def shared(world, rank, **options):
    sampler = DistributedSampler(LABELED, world, rank, shuffle=False, **options)
    return DataLoader(LABELED, batch_size=2, sampler=sampler)


def test_samples_that_a_sampler_repeats_are_announced():
    with pytest.warns(zm.ZeromeanWarning, match="repeats 1 of them.*range\\(rank, 11, 2\\)"):
        first = measure(shared(2, 0), PER_CHANNEL)
    with pytest.warns(zm.ZeromeanWarning, match="counted twice"):
        second = measure(shared(2, 1), PER_CHANNEL)
    assert (first + second).provenance.items == 12
    assert first + second != EXPECTED


def test_samples_that_a_sampler_leaves_out_are_announced():
    with pytest.warns(zm.ZeromeanWarning, match="leaves out 1 of them"):
        measure(shared(2, 0, drop_last=True), PER_CHANNEL)
    with pytest.warns(zm.ZeromeanWarning, match="leaves out the last 3 of 11"):
        measure(DataLoader(LABELED, batch_size=4, drop_last=True), PER_CHANNEL)


def test_samplers_that_fit_are_silent():
    even = TensorDataset(IMAGES[:10])
    for options in ({}, {"drop_last": True}):
        sampler = DistributedSampler(even, 2, 0, **options)
        measure(DataLoader(even, batch_size=5, sampler=sampler, drop_last=True), PER_CHANNEL)


# ---------------------------------------------------------------- several processes

_WORKER = """
import json, sys, warnings
import torch, torch.distributed as dist
import zeromean as zm
from zeromean.torch import measure
from torch.utils.data import DataLoader, Subset, TensorDataset

rank, folder = int(sys.argv[1]), sys.argv[2]
torch.set_num_threads(1)
dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
data = torch.load(f"{folder}/data.pt", weights_only=True)
kept = {}

def note(name, source, pattern, **options):
    try:
        profile = measure(source, pattern, **options)
        profile.save(f"{folder}/{name}-{rank}.safetensors")
    except zm.ZeromeanError as error:
        kept[name] = f"{type(error).__name__}: {error}"

floats, images = data["floats"], data["images"]
own = DataLoader(Subset(TensorDataset(images), range(rank, len(images), 2)), batch_size=3)
note("floats", [floats[:7], floats[7:]][rank], "n d -> d")
note("images", own, "n c h w -> c")
note("bfloat16", floats[rank::2].bfloat16(), "n d -> d")
note("pixels", images[rank::2].float(), "n c h w -> c h w", quantiles=True)
note("one", floats if rank == 0 else [], "n d -> d")
note("none", [], "n d -> d")
note("broken", floats if rank == 0 else floats[None, None], "n d -> d")
note("unlike", floats if rank == 0 else floats.double(), "n d -> d")
note("covariance", images[rank::2], "n c h w -> c", covariance=True)
note("alone", floats[rank::2], "n d -> d", all_reduce=False)
json.dump(kept, open(f"{folder}/errors-{rank}.json", "w"))
dist.destroy_process_group()
"""


@pytest.fixture(scope="module")
def together(tmp_path_factory):
    """What two processes found, as a folder."""
    import torch.distributed as dist

    if not dist.is_available():
        pytest.skip("this PyTorch has no torch.distributed")
    folder = tmp_path_factory.mktemp("processes")
    floats = torch.from_numpy(numbers("float32", "wide", (40, 3), 7))
    torch.save({"floats": floats, "images": IMAGES}, folder / "data.pt")
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", _WORKER, str(rank), str(folder)],
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in (0, 1)
    ]
    for worker in workers:
        _, said = worker.communicate(timeout=120)
        assert worker.returncode == 0, said
    return folder, floats


def found(folder, name, rank):
    return zm.load(folder / f"{name}-{rank}.safetensors")


def test_two_processes_give_the_bits_of_one(together):
    folder, floats = together
    expected = {
        "floats": zm.measure(floats.numpy()),
        "images": EXPECTED,
        "bfloat16": measure(floats.bfloat16(), "n d -> d"),
        "pixels": zm.measure(IMAGES.float().numpy(), "n c h w -> c h w", quantiles=True),
        "one": zm.measure(floats.numpy()),
        "covariance": zm.measure(IMAGES.numpy(), PER_CHANNEL, covariance=True),
    }
    for name, profile in expected.items():
        for rank in (0, 1):
            other = found(folder, name, rank)
            assert other == profile, (name, rank)
            assert other.std.tobytes() == profile.std.tobytes()
            assert other.min.tolist() == profile.min.tolist()
            assert other.provenance.items == profile.provenance.items


def test_processes_may_work_alone(together):
    folder, floats = together
    halves = [found(folder, "alone", rank) for rank in (0, 1)]
    assert halves[0] == zm.measure(floats[::2].numpy())
    assert halves[0] != halves[1]
    assert halves[0] + halves[1] == zm.measure(floats.numpy())


def test_what_fails_in_one_process_fails_in_all(together):
    import json

    folder, _ = together
    first, second = (json.loads((folder / f"errors-{r}.json").read_text()) for r in (0, 1))
    assert set(first) == set(second) == {"none", "broken", "unlike"}
    assert first["none"] == second["none"]
    assert "the source is empty" in first["none"]
    assert first["broken"].startswith("SourceError: process 1 could not measure its part: Pattern")
    assert second["broken"].startswith("PatternError")
    assert first["unlike"] == second["unlike"]
    assert "MergeError: process 1" in first["unlike"]


def test_options_that_there_are_not_are_named():
    x = torch.zeros(2, 3)
    with pytest.raises(zm.PatternError, match=r"chanels='RGB': there is no such option.*channels"):
        measure(x, "n d -> d", chanels="RGB")
    with pytest.raises(zm.PatternError, match=r"zeromean.measure\(tensor, pattern, by=labels\)"):
        measure(x, "n d -> d", by=[0, 1])


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is one")
def test_a_device_that_is_not_there_is_named():
    with pytest.raises(zm.PatternError, match="device 'cuda' cannot be used here"):
        measure(torch.zeros(2, 3), "n d -> d", device="cuda")


def test_loaders_are_measured_by_either_measure():
    """On the processor both give the same bits."""
    data = TensorDataset(torch.arange(12.0).reshape(4, 3))
    for source in (data, DataLoader(data, batch_size=3)):
        assert zm.measure(source, "n d -> d") == measure(source, "n d -> d")
