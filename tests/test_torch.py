"""Modules and tensors: the same bits as arrays, on every path, and good manners as a module."""

from __future__ import annotations

import copy
import io
import pickle
import sys
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import zeromean as zm
from zeromean.normalizer import Normalizer
from zeromean.pattern import Pattern
from zeromean.provenance import Units

torch = pytest.importorskip("torch")

from strategies import numbers, numpy_dtype, seeds, tempers  # noqa: E402
from zeromean.torch import Normalize, apply, invert, module, normalizing  # noqa: E402
from zeromean.torch.single_rounding import rounded, whole  # noqa: E402

PATTERNS = {
    "n h w c -> c": (4, 5, 6, 3),
    "n c h w -> c": (4, 3, 5, 6),
    "n h w c -> h w c": (4, 5, 6, 3),
    "n h w c -> c h w": (4, 5, 6, 3),
    "n h w c ->": (4, 5, 6, 3),
    "n h w c -> c w": (2, 1, 6, 1),
    "n d -> d": (7, 5),
    "n d -> n d": (7, 5),
    "n ->": (9,),
    "n t f -> n f": (3, 4, 5),
    "n h w (g c) -> g": (3, 4, 5, 6),
    "n h w (g c) -> c g": (3, 4, 5, 6),
    "n (g c) h w -> h g": (3, 6, 4, 5),
    "... c -> c": (3, 2, 4, 5),
    "n ... -> ...": (3, 2, 4, 5),
    "n ... c -> ... c": (3, 2, 4, 5),
}
INPUTS = ("bool", "uint8", "int16", "uint16", "int64", "uint64", "float16", "bfloat16")
INPUTS += ("float32", "float64")
OUTPUTS = ("float16", "bfloat16", "float32", "float64")
IMAGES = torch.randint(0, 256, (8, 3, 6, 5), dtype=torch.uint8, generator=torch.manual_seed(2))


@pytest.fixture(autouse=True, scope="module")
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.fixture(params=["loops", "operations"])
def engine(request, monkeypatch):
    """Compiled loops, and PyTorch's own operations, as a GPU would use them."""
    if request.param == "operations":
        monkeypatch.setattr(Normalize, "_by_operations", lambda self, x: True)
    return request.param


def affine_map(text, shape, offset=False, seed=0, dtype="float32"):
    pattern = Pattern.parse(text, **({"g": 2} if "(" in text else {}))
    kept = pattern.kept_shape(shape)
    rng = np.random.default_rng(seed)
    offsets = rng.normal(size=kept) * (rng.random(kept) < 0.5) if offset else np.zeros(kept)
    return Normalizer(
        pattern=pattern,
        kept_shape=kept,
        shift=rng.normal(size=kept) * 100,
        scale=rng.uniform(0.5, 200, kept),
        dtype=dtype,
        units=Units.of(dtype),
        recipe="made up",
        offset=offsets,
    )


def expected(norm, array, dtype):
    """The formula, operation by operation in float64, rounded once at the end."""
    with np.errstate(all="ignore"):
        spread = (norm.pattern.spread(getattr(norm, k), array.shape) for k in _NUMBERS)
        shift, scale, offset = spread
        y = (array.astype(np.float64) - shift) / scale
        y = np.where(offset == 0, y, y + offset)
        return nearest_bfloat16(y) if dtype == "bfloat16" else y.astype(dtype)


_NUMBERS = ("shift", "scale", "offset")


def nearest_bfloat16(values):
    """Rounded once (ml_dtypes rounds float64 twice): the neighbor that is nearer, ties to even."""
    codes = np.arange(0x7F81, dtype=np.uint32)  # magnitudes from 0 to infinity
    grid = (codes << np.uint32(16)).view(np.float32).astype(np.float64)
    grid[-1] = 2.0**128
    size = np.abs(np.nan_to_num(values, nan=0.0, posinf=2.0**129, neginf=-(2.0**129)))
    above = np.clip(np.searchsorted(grid, size), 1, len(grid) - 1)
    middle = (grid[above - 1] + grid[above]) / 2  # exact: nine bits
    up = (size > middle) | ((size == middle) & (above % 2 == 0))
    code = np.where(up, above, above - 1).astype(np.uint16)
    code = np.where(np.signbit(values), code | 0x8000, code)
    return np.where(np.isnan(values), 0x7FC0, code).astype(np.uint16).view(numpy_dtype("bfloat16"))


def tensor_of(array):
    if array.dtype.name == "bfloat16":
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array)


def assert_same(tensor, array):
    """Same dtype, shape and bits; any NaN is as good as another."""
    assert str(tensor.dtype) == f"torch.{array.dtype.name}"
    assert tuple(tensor.shape) == array.shape
    wide = tensor.double().numpy(), array.astype(np.float64)
    assert np.array_equal(*wide, equal_nan=True)
    known = ~np.isnan(wide[0])
    assert np.array_equal(np.signbit(wide[0])[known], np.signbit(wide[1])[known])


# ---------------------------------------------------------------- the map


@pytest.mark.parametrize("text", PATTERNS)
@given(data=st.data(), seed=seeds)
def test_modules_give_the_formula_rounded_once(text, data, seed):
    """Every pattern, dtype in and out, with and without offset, by loops and by operations."""
    dtype, target = data.draw(st.sampled_from(INPUTS)), data.draw(st.sampled_from(OUTPUTS))
    array = numbers(dtype, data.draw(st.sampled_from(tempers(dtype))), PATTERNS[text], seed)
    norm = affine_map(text, array.shape, data.draw(st.booleans()), seed)
    made, want = module(norm, dtype=target), expected(norm, array, target)
    x = tensor_of(array)
    assert_same(made(x), want)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Normalize, "_by_operations", lambda self, x: True)
        assert_same(made(x), want)


@pytest.mark.parametrize("dtype", INPUTS)
def test_large_tensors_take_the_same_bits_from_other_loops(dtype, engine):
    array = numbers(dtype, "few", (40, 3, 20, 21), 3)
    norm = affine_map("n c h w -> c", array.shape, offset=True)
    for target in OUTPUTS:
        assert_same(module(norm, dtype=target)(tensor_of(array)), expected(norm, array, target))


def test_the_comparison_of_bits_can_fail():
    with pytest.raises(AssertionError):
        assert_same(torch.tensor([0.0]), np.array([-0.0], np.float32))
    with pytest.raises(AssertionError):
        assert_same(torch.tensor([1.0]), np.array([np.nextafter(np.float32(1), 2)]))
    with pytest.raises(AssertionError):
        assert_same(torch.tensor([1.0]), np.array([1.0]))


def test_a_missing_first_axis(engine):
    for text in ("n h w c -> c", "n c h w -> c", "n h w c -> h w c", "n d -> d", "n ->"):
        array = numbers("float32", "normal", PATTERNS[text], 1)
        norm = affine_map(text, array.shape)
        assert torch.equal(module(norm)(torch.tensor(array[0])), module(norm)(tensor_of(array))[0])


def test_empty_tensors(engine):
    norm = affine_map("n h w c -> c", (4, 5, 6, 3))
    assert module(norm)(torch.zeros(0, 5, 6, 3)).shape == (0, 5, 6, 3)
    assert norm.invert(module(norm)(torch.zeros(2, 0, 6, 3))).shape == (2, 0, 6, 3)


def test_strides_of_any_kind(engine):
    array = numbers("float32", "normal", (6, 8, 3), 4)
    norm = affine_map("n h c -> c", (6, 8, 3))
    x = tensor_of(array)
    views = [x[::2], x.flip(1), x[:, 1::3], x.transpose(0, 1), x[:1].expand(4, -1, -1)]
    for view in views:
        assert_same(module(norm)(view), expected(norm, view.numpy(), "float32"))


@pytest.mark.parametrize("form", [torch.channels_last, torch.contiguous_format])
def test_memory_format_is_kept(form, engine):
    norm = zm.standardize(zm.measure(IMAGES.numpy(), "n c h w -> c"))
    y = norm.torch()(IMAGES.contiguous(memory_format=form))
    assert y.is_contiguous(memory_format=form)
    assert_same(y, norm(IMAGES.numpy()))
    assert norm.torch().invert(y).is_contiguous(memory_format=form)


# ---------------------------------------------------------------- layouts


@pytest.mark.parametrize("text", [t for t in PATTERNS if t.startswith("n h w") or "..." in t])
def test_layout_chw_moves_the_channels_of_the_pattern(text, engine):
    array = numbers("float32", "normal", PATTERNS[text], 1)
    norm = affine_map(text, array.shape, offset=True)
    want = np.moveaxis(expected(norm, array, "float32"), -1, -3)
    first = tensor_of(array).movedim(-1, -3).contiguous()
    made = module(norm, layout="chw")
    assert_same(made(first), want)
    assert made(first).is_contiguous()
    moving = module(norm, layout="hwc->chw")
    y = moving(tensor_of(array))
    assert_same(y, want)
    assert y.is_contiguous()
    for back, raw in ((made, first), (moving, tensor_of(array))):
        x = back.invert(back(raw), "float64")
        assert x.shape == raw.shape
        assert torch.allclose(x.float(), raw, rtol=1e-4, atol=1e-4)


def test_layout_of_single_pictures(engine):
    norm = zm.zero_mean(zm.measure(IMAGES.movedim(1, -1).numpy(), "n h w c -> c"))
    want = zm.zero_mean(zm.measure(IMAGES.numpy(), "n c h w -> c"))(IMAGES.numpy())
    assert_same(norm.torch(layout="chw")(IMAGES[3]), want[3])
    assert_same(norm.torch(layout="hwc->chw")(IMAGES[3].movedim(0, -1)), want[3])


def test_layouts_that_cannot_be():
    flat = affine_map("n d -> d", (7, 5))
    with pytest.raises(zm.PatternError, match="for the axes h, w, c"):
        module(flat, layout="chw")
    with pytest.raises(zm.PatternError, match="layout is 'nchw'; choose 'chw'"):
        module(flat, layout="nchw")


# ---------------------------------------------------------------- rounding


@pytest.mark.parametrize(("dtype", "bits", "lowest"), [("float16", 11, -24), ("bfloat16", 8, -133)])
def test_halves_are_rounded_once(dtype, bits, lowest):
    """Against fractions: nearest, ties to even; PyTorch's own conversion rounds twice."""
    rng = np.random.default_rng(0)
    near = rng.integers(1 << bits - 1, 1 << bits, 4000) + 0.5
    nudge = rng.choice([0.0, 2.0**-30, -(2.0**-30), 2.0**-42], 4000)
    values = (near + nudge) * 2.0 ** rng.integers(lowest - 1, 4, 4000)
    values *= rng.choice([-1.0, 1.0], 4000)
    target = getattr(torch, dtype)
    found = rounded(torch.from_numpy(values), target).double().numpy()
    twice = torch.from_numpy(values).to(target).double().numpy()
    assert (found != twice).sum() > 100
    for value, result in zip(values.tolist(), found.tolist(), strict=True):
        x = Fraction(value)
        exponent = max(_exponent(x) - bits + 1, lowest)
        assert Fraction(result) == round(x / Fraction(2) ** exponent) * Fraction(2) ** exponent


def _exponent(x):
    """The e of 2^e <= |x| < 2^(e+1)."""
    e = abs(x.numerator).bit_length() - x.denominator.bit_length()
    return e if abs(x) >= Fraction(2) ** e else e - 1


def test_rounding_keeps_what_is_special():
    values = [0.0, -0.0, torch.inf, -torch.inf, torch.nan, 1e300, -1e300, 1e-300, -1e-300]
    x = torch.tensor(values, dtype=torch.float64)
    for dtype in (torch.float16, torch.bfloat16):
        y = rounded(x, dtype)
        assert y.tolist()[2:4] + y.tolist()[5:7] == [torch.inf, -torch.inf] * 2
        assert y.isnan().tolist() == x.isnan().tolist()
        assert y.signbit().tolist()[:4] == [False, True, False, True]
        assert y[7:].tolist() == [0.0, 0.0]
        assert y[7:].signbit().tolist() == [False, True]


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int32", "int64", "uint64", "bool"])
def test_whole_numbers_are_nearest_and_clipped(dtype):
    values = [0.5, 1.5, 2.5, -0.5, -7.6, 254.5, 255.5, 3e9, 2.0**63, 9.3e18, 2.0**64, -(2.0**63)]
    values += [1e300, -1e300, 2.0**53 + 2, 0.0]
    found = whole(torch.tensor(values, dtype=torch.float64), getattr(torch, dtype)).tolist()
    if dtype == "bool":
        assert found == [v >= 0.5 for v in values]
        return
    info = np.iinfo(dtype)
    assert found == [min(max(round(v), info.min), info.max) for v in values]


# ---------------------------------------------------------------- back


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("target", ["float32", "float64"])
def test_integer_round_trips_are_the_identity(dtype, target, engine):
    info = np.iinfo(dtype)
    x = np.arange(info.max + 1, dtype=dtype)[:, None].repeat(2, axis=1)
    profile = zm.measure(x)
    for norm in (zm.standardize(profile), zm.zero_mean(profile)):
        made = module(norm, dtype=target)
        back = made.invert(made(tensor_of(x)))
        assert_same(back, x)


def test_inverting_agrees_with_arrays(engine):
    for text in PATTERNS:
        array = numbers("float32", "normal", PATTERNS[text], 2)
        for raw in ("uint8", "int32", "float32", "float64", "bool"):
            norm = affine_map(text, array.shape, offset=True, dtype=raw)
            assert_same(module(norm).invert(tensor_of(array)), norm.invert(array))


def test_what_cannot_be_inverted(engine):
    norm = zm.zero_mean(zm.measure(IMAGES.numpy(), "n c h w -> c"))
    made = norm.torch()
    with pytest.raises(zm.UnitError, match=r"not torch\.uint8 data"):
        made.invert(IMAGES)
    y = made(IMAGES)
    y[0, 0, 0, 0] = torch.nan
    with pytest.raises(zm.PatternError, match="NaN cannot become"):
        made.invert(y)
    assert made.invert(y, "float32").isnan().sum() == 1


# ---------------------------------------------------------------- whitening


def mixing(text, shape, n_out=None, dtype="float32", seed=0):
    norm = affine_map(text, shape, dtype=dtype)
    size, rng = norm.shift.size, np.random.default_rng(seed)
    matrix = rng.normal(size=(n_out or size, size))
    if n_out is None:
        matrix += 3 * np.eye(size)  # far from singular
    return Normalizer(
        pattern=norm.pattern,
        kept_shape=norm.kept_shape,
        shift=norm.shift,
        scale=np.ones(norm.kept_shape),
        dtype=dtype,
        units=norm.units,
        recipe="mixed",
        matrix=matrix,
        offset=rng.normal(size=len(matrix)),
    )


@pytest.mark.parametrize("n_out", [None, 2])
@pytest.mark.parametrize("text", [t for t in PATTERNS if "->" in t[:-2] and not t.endswith("->")])
def test_matrices_mix_the_kept_entries(text, n_out, engine):
    """The same as for arrays, but for the order in which products are added up."""
    if text.startswith(("n d -> n", "n t f")):
        return
    shape = PATTERNS[text]
    array = numbers("float32", "normal", shape, 1)
    norm = mixing(text, shape, n_out)
    want = norm(array, dtype="float64")
    y = module(norm, dtype="float64")(tensor_of(array))
    assert tuple(y.shape) == want.shape
    assert np.allclose(y.numpy(), want, rtol=1e-12, atol=1e-9)
    back = module(norm).invert(y, "float64")
    assert tuple(back.shape) == shape
    assert np.allclose(back.numpy(), norm.invert(want, dtype="float64"), rtol=1e-9, atol=1e-7)


def test_matrices_and_layouts():
    array = numbers("float32", "normal", (4, 5, 6, 3), 1)
    first = tensor_of(array).movedim(-1, -3).contiguous()
    for n_out in (None, 2):
        norm = mixing("n h w c -> c", (4, 5, 6, 3), n_out)
        want = np.moveaxis(norm(array), -1, -3)
        for layout, x in (("chw", first), ("hwc->chw", tensor_of(array))):
            made = module(norm, layout=layout)
            assert made(x).shape == want.shape
            assert np.allclose(made(x).numpy(), want, rtol=1e-5, atol=1e-4)
            if n_out is None:
                assert torch.allclose(made.invert(made(x)), x, rtol=1e-3, atol=1e-3)
            else:
                assert made.invert(made(x)).shape == x.shape


def test_matrices_work_in_blocks(monkeypatch):
    x = torch.randn(100, 7)
    norm = mixing("n d -> d", (100, 7), 3)
    whole_product = module(norm)(x)
    monkeypatch.setattr(normalizing, "_BLOCK", 64)
    assert torch.allclose(module(norm)(x), whole_product)
    assert module(norm)(torch.zeros(0, 7)).shape == (0, 3)


def test_the_inverse_follows_the_matrix():
    made = module(mixing("n d -> d", (10, 4)), dtype="float64")
    x = torch.randn(10, 4, dtype=torch.float64)
    for _ in range(2):
        assert torch.allclose(made.invert(made(x), "float64"), x)
        other = module(mixing("n d -> d", (10, 4), seed=5))
        made.load_state_dict(other.state_dict())


# ---------------------------------------------------------------- as a module


@pytest.fixture
def norm():
    return zm.standardize(zm.measure(IMAGES.numpy(), "n c h w -> c"))


def test_numbers_are_buffers_and_travel_in_the_state(norm):
    made = norm.torch()
    assert [name for name, _ in made.named_buffers()] == ["shift", "scale", "offset"]
    assert list(made.parameters()) == []
    file = io.BytesIO()
    torch.save(made.state_dict(), file)
    file.seek(0)
    other = zm.zero_mean(zm.measure(IMAGES.numpy() // 2, "n c h w -> c")).torch()
    assert not torch.equal(other(IMAGES), made(IMAGES))
    other.load_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(other(IMAGES), made(IMAGES))


def test_an_offset_can_be_loaded():
    plain, moved = (affine_map("n d -> d", (7, 5), offset) for offset in (False, True))
    made = module(plain)
    made.load_state_dict(module(moved).state_dict())
    x = torch.randn(7, 5)
    assert torch.equal(made(x), module(moved)(x))


def test_numbers_stay_float64_whatever_the_model_does(norm):
    model = torch.nn.Sequential(norm.torch(), torch.nn.Conv2d(3, 2, 1))
    before = model[0](IMAGES)
    for change in ("half", "bfloat16", "float", "double"):
        getattr(model, change)()
        assert model[0].shift.dtype == torch.float64
        assert torch.equal(model[0](IMAGES), before)


def test_copies_and_pickles(norm):
    made = norm.torch(dtype="float16", layout=None)
    for other in (copy.deepcopy(made), pickle.loads(pickle.dumps(made))):
        assert torch.equal(other(IMAGES), made(IMAGES))


def test_meta_and_back(norm):
    made = norm.torch().to("meta")
    assert made.shift.is_meta
    assert made(IMAGES.to("meta")).is_meta
    made.to_empty(device="cpu")
    made.load_state_dict(norm.torch().state_dict())
    assert torch.equal(made(IMAGES), norm.torch()(IMAGES))


def test_devices_without_float64(norm, monkeypatch):
    """As Apple's MPS: float32 throughout, near the truth; float64 again when it comes back."""
    made = norm.torch(dtype="float64")
    truth = made(IMAGES)
    monkeypatch.setattr(normalizing, "WITHOUT_FLOAT64", {"cpu"})
    made.to("cpu")
    assert made.shift.dtype == torch.float32
    bound = 2.0**-24 * 255 / norm.scale.min() + 3 * 2.0**-24 * truth.abs()
    assert ((made(IMAGES) - truth).abs() <= bound).all()
    assert torch.equal(made.invert(made(IMAGES)), IMAGES)
    with pytest.raises(zm.PatternError, match="no float64"):
        made.invert(truth, "int32")
    monkeypatch.setattr(normalizing, "WITHOUT_FLOAT64", set())
    made.to("cpu")
    assert torch.equal(made(IMAGES), truth)


def test_print_says_what_it_is(norm):
    shown = 'Normalize(standardize, "n c h w -> c", uint8 (0..255) to float16)'
    assert repr(norm.torch(dtype=torch.float16)) == shown


def test_only_normalizers_become_modules():
    with pytest.raises(zm.PatternError, match="known beforehand"):
        module(zm.measure(np.eye(3)))
    with pytest.raises(zm.PatternError, match=r"dtype is torch\.int8; choose one of float16"):
        module(affine_map("n d -> d", (7, 5)), dtype=torch.int8)
    with pytest.raises(zm.PatternError, match="dtype is 'float33'"):
        module(affine_map("n d -> d", (7, 5)), dtype="float33")


# ---------------------------------------------------------------- compiled, exported, transformed


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_compiles_in_one_graph(norm, dtype):
    """One graph, and the same bits; with C++ or Triton behind it that is PyTorch's own affair."""
    torch._dynamo.reset()
    made = norm.torch(dtype=dtype)
    compiled = torch.compile(made, fullgraph=True, backend="aot_eager")
    for x in (IMAGES, IMAGES[:5], IMAGES.contiguous(memory_format=torch.channels_last)):
        assert torch.equal(compiled(x), made(x))


def test_matrices_and_inverses_compile():
    torch._dynamo.reset()
    x = torch.randn(6, 4)
    made = module(mixing("n d -> d", (6, 4)))
    for function in (made, made.invert):
        compiled = torch.compile(function, fullgraph=True, backend="aot_eager")
        assert torch.allclose(compiled(x), function(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("strict", [False, True])
def test_exports_with_any_batch_size(norm, strict):
    torch._dynamo.reset()
    made = norm.torch()
    shapes = {"x": {0: torch.export.Dim("n")}}
    exported = torch.export.export(made, (IMAGES,), dynamic_shapes=shapes, strict=strict).module()
    for x in (IMAGES, IMAGES[:5]):
        assert torch.equal(exported(x), made(x))


@pytest.mark.filterwarnings("ignore:`torch.jit", "ignore::torch.jit.TracerWarning")
def test_traces_and_transforms_see_operations(norm):
    """Loops outside of PyTorch would be invisible to them, or become constants."""
    from torch.fx.experimental.proxy_tensor import make_fx

    made, other = norm.torch(), IMAGES.flip(0)
    assert torch.equal(make_fx(made)(IMAGES)(other), made(other))
    assert torch.equal(torch.jit.trace(made, IMAGES)(other), made(other))
    assert torch.equal(torch.vmap(made)(IMAGES), made(IMAGES))
    x = IMAGES.float()
    _, tangent = torch.func.jvp(made, (x,), (torch.ones_like(x),))
    assert torch.allclose(tangent[0, :, 0, 0].double(), 1 / made.scale)
    gradient = torch.func.grad(lambda t: made(t).sum())(x)
    assert torch.equal(gradient, tangent)
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(x, torch.ones_like(x))
        assert torch.equal(torch.autograd.forward_ad.unpack_dual(made(dual)).tangent, tangent)


@pytest.mark.parametrize("dtype", OUTPUTS)
def test_gradients_flow(norm, dtype):
    x = IMAGES.float().requires_grad_()
    y = norm.torch(dtype=dtype)(x)
    assert torch.equal(y.detach(), norm.torch(dtype=dtype)(IMAGES))
    y.sum().backward()
    slope = torch.from_numpy(1 / norm.scale).to(y.dtype)
    assert torch.allclose(x.grad, slope.float()[None, :, None, None].expand_as(x), rtol=1e-2)
    back = norm.torch().invert(y, "float64")
    assert back.requires_grad


def test_gradients_are_those_of_finite_differences():
    for norm in (affine_map("n d -> d", (3, 4), True), mixing("n d -> d", (3, 4), 2)):
        made = module(norm, dtype="float64")
        assert torch.autograd.gradcheck(made, torch.randn(3, 4).double().requires_grad_())


# ---------------------------------------------------------------- units


def test_units_are_checked_where_there_are_values(norm, engine):
    made = norm.torch()
    with pytest.raises(zm.UnitError, match=r"float32 from 0 to 1, which looks like 0..1.*by 255"):
        made(IMAGES / 255)
    with pytest.raises(zm.UnitError, match="int32 from 0 to"):
        made(IMAGES.int() * 2)
    with pytest.raises(zm.UnitError, match="bring the data to that range"):
        norm(IMAGES.float() * 3)
    assert made(IMAGES.float()).shape == IMAGES.shape
    assert made(torch.full(IMAGES.shape, torch.nan)).isnan().all()
    assert norm.torch(check_units=False)(IMAGES / 255).shape == IMAGES.shape


def test_shapes_that_do_not_fit(norm):
    made = norm.torch()
    for shape in ((2, 6, 5, 3), (6, 5), (2, 1, 6, 5), (2, 6, 6, 5), (1, 2, 3, 6, 5)):
        with pytest.raises(zm.PatternError, match=r"does not fit the pattern 'n c h w -> c'"):
            made(torch.zeros(shape))
    last = zm.standardize(zm.measure(IMAGES.movedim(1, -1).numpy(), "n h w c -> c"))
    with pytest.raises(zm.PatternError, match=r"say so: norm.torch\(layout='chw'\)"):
        last.torch()(IMAGES)
    one = affine_map("n c h w -> c", (2, 1, 4, 4))
    with pytest.raises(zm.PatternError):
        module(one)(torch.zeros(2, 3, 4, 4))  # one channel must not spread over three


# ---------------------------------------------------------------- tensors in, tensors out


def test_calling_a_normalizer(norm, engine):
    y = norm(IMAGES)
    assert isinstance(y, torch.Tensor)
    assert_same(y, norm(IMAGES.numpy()))
    assert norm(IMAGES, dtype="float16").dtype == torch.float16
    assert norm(IMAGES, dtype=torch.bfloat16).dtype == torch.bfloat16
    assert torch.equal(norm.invert(y), IMAGES)
    assert torch.equal(apply(norm, IMAGES), y)
    x = IMAGES.float().requires_grad_()
    assert norm(x).requires_grad


def test_out_and_in_place(norm, engine):
    want = norm(IMAGES)
    out = torch.empty(IMAGES.shape)
    assert norm(IMAGES, out=out) is out
    assert torch.equal(out, want)
    x = IMAGES.float()
    assert norm(x, out=x) is x
    assert torch.equal(x, want)
    back = torch.empty(IMAGES.shape, dtype=torch.uint8)
    assert torch.equal(norm.invert(want, out=back), IMAGES)
    for wrong in (torch.empty(3), torch.empty(IMAGES.shape, device="meta")):
        with pytest.raises(zm.PatternError, match=r"it must be torch\.float32"):
            norm(IMAGES, out=wrong)
    with pytest.raises(zm.PatternError, match="but dtype says"):
        norm(IMAGES, out=out, dtype="float64")
    with pytest.raises(zm.PatternError, match=r"dtype is torch\.int64"):
        norm(IMAGES, out=out.long())
    with pytest.raises(zm.PatternError, match="it must be"):
        norm.invert(want, out=torch.empty(2, dtype=torch.uint8))


def test_layout_on_the_way(engine):
    last = IMAGES.movedim(1, -1).contiguous()
    norm = zm.standardize(zm.measure(last.numpy(), "n h w c -> c"))
    y = norm(last, layout="chw")
    assert_same(y, norm(last.numpy(), layout="chw"))
    assert torch.equal(norm.invert(y, layout="chw"), last)
    assert torch.equal(invert(norm, y, layout="chw"), last)
    out = torch.empty(IMAGES.shape)
    assert torch.equal(norm(last, out=out, layout="chw"), y)
    with pytest.raises(zm.PatternError, match="layout is 'hwc'"):
        norm(last, layout="hwc")


def test_matrices_on_tensors():
    x = torch.randn(20, 5)
    for n_out in (None, 3):
        norm = mixing("n d -> d", (20, 5), n_out)
        want = norm(x.numpy())
        assert np.allclose(norm(x).numpy(), want, rtol=1e-5, atol=1e-5)
        out = torch.empty(want.shape)
        assert norm(x, out=out) is out
        assert torch.equal(out, norm(x))


# ---------------------------------------------------------------- among other transforms


class Compose:
    """As that of torchvision: one callable after the other."""

    def __init__(self, transforms):
        self.transforms = transforms

    def __call__(self, x):
        for transform in self.transforms:
            x = transform(x)
        return x


def test_in_a_compose(norm):
    transform = Compose([lambda x: x.flip(-1), norm.torch(), torch.nn.Flatten(0)])
    assert torch.equal(transform(IMAGES[0]), norm(IMAGES[0].flip(-1)).flatten())


def test_in_a_compose_of_torchvision(norm):
    v2 = pytest.importorskip("torchvision.transforms.v2")
    from torchvision import tv_tensors

    transform = v2.Compose([v2.RandomHorizontalFlip(1.0), norm.torch()])
    for x in (IMAGES, tv_tensors.Image(IMAGES)):
        assert torch.equal(torch.Tensor(transform(x)), norm(IMAGES.flip(-1)))


class Picture(torch.Tensor):
    """A subclass of tensors, as torchvision has them."""


def test_subclasses_of_tensors(norm):
    y = norm.torch()(IMAGES.as_subclass(Picture))
    assert torch.equal(y.as_subclass(torch.Tensor), norm(IMAGES))
    with pytest.raises(zm.UnitError):
        norm.torch()((IMAGES / 255).as_subclass(Picture))


# ---------------------------------------------------------------- without PyTorch


def test_without_torch_the_error_says_what_to_install(monkeypatch):
    for name in list(sys.modules):
        if name.startswith("zeromean.torch"):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ImportError, match=r'pip install "zeromean\[torch\]"'):
        zm.zero_mean(zm.measure(np.eye(3))).torch()


def test_modules_say_that_they_take_tensors():
    module = zm.zero_mean(zm.measure(np.eye(2))).torch()
    for do in (module, module.invert):
        with pytest.raises(zm.PatternError, match=r"not a ndarray; give torch.as_tensor\(x\)"):
            do(np.eye(2))
