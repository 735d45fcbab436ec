"""What runs on a GPU gives the bits of the processor: measuring, normalizing, undoing."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

import zeromean as zm

torch = pytest.importorskip("torch")

from strategies import DTYPES  # noqa: E402
from window_numbers import CASES, SHAPES, stressed  # noqa: E402
from zeromean.torch import measure  # noqa: E402

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")

PATTERNS = {
    "n h w c -> c": (9, 16, 17, 3),
    "n c h w -> c": (9, 3, 16, 17),
    "n c h w -> c h w": (9, 3, 16, 17),
    "n d -> d": (1001, 7),
    "n d ->": (1001, 7),
}


def data(shape, dtype, seed=0):
    """Everything a format has, for floats NaN, infinities, tiny and huge values as well."""
    random = np.random.default_rng(seed)
    if dtype in ("float16", "bfloat16", "float32", "float64"):
        x = random.normal(3, 50, shape) * 10.0 ** random.integers(-3, 4, shape)
        spots = random.random(shape)
        x[spots < 0.01], x[spots > 0.99], x[(spots > 0.5) & (spots < 0.503)] = np.nan, np.inf, 0
        kind = {"bfloat16": torch.bfloat16}.get(dtype)
        wide = torch.from_numpy(x)
        return wide.to(kind) if kind else wide.to(getattr(torch, dtype))
    if dtype == "bool":
        return torch.from_numpy(random.random(shape) > 0.3)
    limits = np.iinfo(dtype)
    x = random.integers(limits.min, limits.max, shape, dtype=dtype, endpoint=True)
    return torch.from_numpy(x)


def quiet(function, *arguments, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", zm.ZeromeanWarning)
        return function(*arguments, **options)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("pattern", list(PATTERNS))
def test_measured_on_a_gpu_as_on_the_processor(pattern, dtype):
    """Equal profiles, all read-outs included, whole and as the sum of two halves."""
    x = data(PATTERNS[pattern], dtype)
    there = quiet(measure, x.cuda(), pattern)
    here = quiet(measure, x, pattern)
    assert there == here
    for name in ("mean", "std", "min", "max", "count", "nan_count", "inf_count"):
        np.testing.assert_array_equal(getattr(there, name), getattr(here, name))
    half = len(x) // 2
    assert quiet(measure, x[:half].cuda(), pattern) + quiet(measure, x[half:], pattern) == here


def test_a_million_values_in_any_order():
    """Atomic additions come in an order of their own; the bits do not change."""
    x = data((1 << 18, 5), "float32", seed=3).cuda()
    first = quiet(measure, x, "n d -> d")
    for seed in range(3):
        torch.manual_seed(seed)
        assert quiet(measure, x[torch.randperm(len(x), device="cuda")], "n d -> d") == first


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("case", list(CASES))
def test_windows_on_a_gpu(case, dtype):
    """Inside a window, at its edge, or outside; extrema and special counts as well."""
    for seed, shape in enumerate(SHAPES):
        x = torch.from_numpy(stressed(case, dtype, shape, seed))
        there, here = quiet(measure, x.cuda(), "n d -> d"), quiet(measure, x, "n d -> d")
        assert (there, there.known_extrema) == (here, here.known_extrema), shape


def test_a_hundred_million_values_on_a_gpu():
    """Several chunks, of float32 and of the counts of bytes; as whole and as parts."""
    torch.manual_seed(4)
    x = torch.randn(1 << 21, 48, device="cuda")
    parts = [measure(part, "n d -> d") for part in x.split(777_777)]
    assert measure(x, "n d -> d") == parts[0] + parts[1] + parts[2]
    u = torch.randint(0, 256, (200, 3, 400, 401), dtype=torch.uint8, device="cuda")
    expected = zm.measure(u.cpu().numpy(), "n c h w -> c")
    assert measure(u, "n c h w -> c") == expected
    last = u.contiguous(memory_format=torch.channels_last)
    assert measure(last, "n c h w -> c") == expected


@pytest.mark.parametrize("dtype", ["uint8", "int16", "float16", "float32"])
def test_deterministic_algorithms_measure_the_same(dtype):
    x = data((4001, 5), dtype, seed=6).cuda()
    expected = quiet(measure, x, "n d -> d")
    torch.use_deterministic_algorithms(True)
    try:
        assert quiet(measure, x, "n d -> d") == expected
    finally:
        torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int32", "float16", "bfloat16", "float32"])
@pytest.mark.parametrize("pattern", list(PATTERNS))
@pytest.mark.parametrize("recipe", [zm.zero_mean, zm.standardize, zm.min_max, zm.max_abs])
def test_normalized_on_a_gpu_as_on_the_processor(pattern, dtype, recipe):
    """y and the way back, bit for bit, for every output dtype."""
    x = (
        torch.nan_to_num(data(PATTERNS[pattern], dtype), 1, 5, -5)
        if "float" in dtype
        else data(PATTERNS[pattern], dtype)
    )
    norm = quiet(recipe, quiet(measure, x, pattern))
    for out in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
        module = norm.torch(dtype=out)
        there = module.cuda()(x.cuda()).cpu()
        here = norm.torch(dtype=out)(x)
        assert torch.equal(there.view(torch.uint8), here.contiguous().view(torch.uint8))
        assert torch.equal(
            module.invert(there.cuda(), dtype="float64").cpu(),
            norm.torch(dtype=out).invert(here, dtype="float64"),
        )


def test_integers_come_back_on_a_gpu():
    x = data((4, 3, 16, 17), "uint8")
    norm = zm.standardize(measure(x, "n c h w -> c"))
    module = norm.torch().cuda()
    assert torch.equal(module.invert(module(x.cuda())).cpu(), x)


def test_compiled_and_captured_modules_agree():
    """A CUDA graph of the module replays the same bits."""
    x = data((8, 3, 32, 32), "uint8").cuda()
    module = zm.standardize(measure(x, "n c h w -> c")).torch().cuda()
    module(x)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = module(x)
    graph.replay()
    torch.cuda.synchronize()
    assert torch.equal(captured, module(x))


def test_whitened_on_a_gpu_within_its_bound():
    x = data((64, 3, 16, 16), "uint8")
    profile = measure(x, "n c h w -> c", covariance=True)
    norm = zm.whiten(profile, "zca")
    there, here = norm.torch(dtype="float64").cuda()(x.cuda()).cpu(), norm.torch(dtype="float64")(x)
    assert (there - here).abs().max() <= 64 * 2.0**-53 * here.abs().max()
