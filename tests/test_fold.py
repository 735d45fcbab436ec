"""Folding: a module behind its normalizer and the folded one agree, at the border too."""

from __future__ import annotations

import copy
import itertools
import warnings
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import small_network
import zeromean as zm
from strategies import seeds
from zeromean.first_layer import Columns, allowed, compared, correction_map, rounded
from zeromean.normalizer import Normalizer
from zeromean.pattern import Pattern
from zeromean.provenance import Units

torch = pytest.importorskip("torch", reason="folds modules of PyTorch")

from torch import nn  # noqa: E402

from zeromean.torch import fold, module  # noqa: E402
from zeromean.torch.raw_layers import PadEach, padded  # noqa: E402

CONVS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


@pytest.fixture(autouse=True, scope="module")
def seeded():
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield
    torch.set_num_threads(threads)


def normalizer(text, kept, *, seed=0, matrix=None, dtype="uint8", **given):
    """An affine map of uint8 data; with an offset, as min_max has one."""
    rng = np.random.default_rng(seed)
    numbers = {
        "shift": rng.uniform(60, 180, kept),
        "scale": np.ones(kept) if matrix is not None else rng.uniform(30, 90, kept),
        "offset": rng.normal(size=kept if matrix is None else len(matrix)),
    }
    return Normalizer(
        pattern=Pattern.parse(text),
        kept_shape=kept,
        dtype=dtype,
        recipe="made up",
        matrix=matrix,
        **({"units": Units.of(dtype)} | numbers | given),
    )


def colors(count=3, **options):
    return normalizer("n h w c -> c", (count,), **options)


def behind(model, norm, x, layout="chw"):
    """What the model gives for normalized data."""
    dtype = next(model.parameters()).dtype
    moves = len(norm.pattern.axes) >= 3 and norm.pattern.axes[-1] == ("c",)
    return model(module(norm, dtype=dtype, layout=layout if moves else None).to(x.device)(x))


def raw(*shape, seed=1, dtype=torch.float64):
    values = np.random.default_rng(seed).integers(0, 256, shape)
    return torch.from_numpy(values).to(dtype)


def gap(a, b):
    return float((a - b).detach().abs().max())


def border_of(x, width):
    """The entries of a picture that are no further than `width` from its edge."""
    inside = torch.zeros(x.shape[-2:], dtype=torch.bool)
    inside[width:-width, width:-width] = True
    return x[..., ~inside]


def naive(model, norm):
    """The fold that people write: W / std and b - W mean / std, padding left alone."""
    folded = copy.deepcopy(model)
    conv = folded[0]
    scale = torch.from_numpy(norm.scale + 0.0).reshape(1, -1, 1, 1)
    t = torch.from_numpy(norm.offset - norm.shift / norm.scale).reshape(1, -1, 1, 1)
    with torch.no_grad():
        exact = conv.weight.double()
        conv.bias += (exact * t).sum(dim=(1, 2, 3)).to(conv.bias.dtype)
        conv.weight.copy_(exact / scale)
    return folded


# ---------------------------------------------------------------- arithmetic


@given(seeds, st.sampled_from([1, 2]))
def test_weights_and_bias_are_those_of_the_formula(seed, groups):
    """Against rational numbers, to a few units in the last place of float64."""
    rng = np.random.default_rng(seed)
    weight, bias = rng.normal(size=(4, 4 // groups)), rng.normal(size=4)
    columns = Columns(rng.normal(size=4) * 100, rng.uniform(0.5, 90, 4), rng.normal(size=4))
    numbers = (columns.shift, columns.scale, columns.offset)
    shift, scale, offset = ([Fraction(v) for v in values] for values in numbers)
    made = columns.weights(weight, groups), columns.bias(weight, bias, groups)
    for row in range(4):
        first = row // (4 // groups) * (4 // groups)
        total, size = Fraction(bias[row]), abs(Fraction(bias[row]))
        for k in range(4 // groups):
            w, i = Fraction(weight[row, k]), first + k
            assert abs(Fraction(made[0][row, k]) - w / scale[i]) <= abs(w / scale[i]) * 2**-53
            total += w * (offset[i] - shift[i] / scale[i])
            size += abs(w) * (abs(offset[i]) + abs(shift[i] / scale[i]))
        assert abs(Fraction(made[1][row]) - total) <= size * 2**-50


def test_pad_values_become_what_was_padded():
    columns = Columns(np.array([100.0, 3.0]), np.array([50.0, 7.0]), np.array([0.5, -1.0]))
    for value in (0.0, -2.5):
        x = columns.raw(value)
        np.testing.assert_allclose((x - columns.shift) / columns.scale + columns.offset, value)


def test_a_matrix_that_cannot_reach_a_value_says_so():
    """More outputs than features: no raw value gives an arbitrary vector."""
    tall = Columns(np.zeros(1), np.ones(1), np.array([1.0, 2.0]), np.array([[1.0], [1.0]]))
    with pytest.raises(zm.PatternError, match=r"no raw value becomes 0 .* border='map'"):
        tall.raw(0.0)


@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize("groups", [1, 2])
def test_correction_map_is_the_convolution_of_a_constant(dims, groups):
    rng = np.random.default_rng(dims)
    strides, dilations = (2, 1, 3)[:dims], (1, 2, 1)[:dims]
    conv = CONVS[dims](4, 6, 3, strides, (2, 1, 0)[:dims], dilations, groups).double()
    image = rng.normal(size=(4, *(9, 8, 7)[:dims]))
    made = correction_map(
        conv.weight.detach().numpy(),
        conv.bias.detach().numpy(),
        image,
        pads=[(n, n) for n in conv.padding],
        strides=strides,
        dilations=dilations,
        groups=groups,
    )
    with torch.no_grad():
        expected = conv(torch.from_numpy(image)[None])[0].numpy()
    np.testing.assert_allclose(made, expected, rtol=0, atol=1e-12)


def test_overflow_is_refused():
    with pytest.raises(zm.FormatError, match="which float16 cannot hold"):
        rounded(np.array([1e6]), np.float16, "bias")


def test_compared_sees_what_differs():
    nan, one, inf = np.array([np.nan]), np.array([1.0]), np.array([np.inf])
    assert compared([(nan, nan), (one, one), (inf, inf)]) == (0.0, 1.0)
    assert compared([(one, nan)])[0] == compared([(inf, one)])[0] == np.inf
    assert compared([(one, one + 0.5)]) == (0.5, 1.0)
    assert allowed(2.0, 0.0, (16, 24)) == 2.0 * 4 * 4 * 2**-24
    assert allowed(2.0, 1e-5, (16, 24)) == 4e-5
    assert allowed(2.0, 1.0, (16, 24)) == 2.0 * 256 * 4 * 2**-24


# ---------------------------------------------------------------- layers, in float64


MODES = ["zeros", "reflect", "replicate", "circular", "same", "valid"]
KINDS = [(1, 1, 1), (2, 2, 1), (1, 2, 2), (3, 1, 4)]  # stride, dilation, groups
CASES = [
    *itertools.product([1, 2], MODES, KINDS),
    *itertools.product([3], MODES, KINDS[1:3]),
]


@pytest.mark.parametrize(("dims", "mode", "kind"), CASES)
def test_convolutions(dims, mode, kind):
    """Any stride, dilation, groups and padding, without bias or with: equal to float64 rounding."""
    stride, dilation, groups = kind
    if mode == "same" and stride > 1:
        stride = 1  # PyTorch has no other
    padding, style = (mode, "zeros") if mode in ("same", "valid") else (2, mode)
    conv = CONVS[dims](4, 8, 3, stride, padding, dilation, groups, groups == 1, style)
    model = nn.Sequential(conv, nn.ReLU(), CONVS[dims](8, 2, 3, padding=1)).double()
    norm = normalizer("n c h w d"[: 3 + 2 * dims] + " -> c", (4,))
    x = raw(2, 4, *(7, 6, 5)[:dims])
    expected = behind(model, norm, x)
    for border in ("pad", "map"):
        folded = fold(model, norm, border=border, shape=x.shape[1:])
        assert gap(folded(x), expected) < 1e-12 * float(expected.detach().abs().max()), border
        needs = mode in ("zeros", "same")
        assert folded.folding.border == (border if needs else "none")
        assert folded.folding.difference < 1e-12


@pytest.mark.parametrize("kernel", [2, 4, (1, 6)])
def test_even_kernels_padded_to_the_same_size(kernel):
    """PyTorch pads one more behind than in front."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of PyTorch: an even kernel needs a copy
        model = nn.Sequential(nn.Conv2d(3, 5, kernel, padding="same")).double()
        x = raw(2, 3, 9, 8)
        expected = behind(model, colors(), x)
        for border in ("pad", "map"):
            folded = fold(model, colors(), border=border, shape=(3, 9, 8))
            assert gap(folded(x), expected) < 1e-12


def test_one_number_for_everything():
    model = nn.Sequential(nn.Conv2d(3, 5, 3, padding=1)).double()
    norm = normalizer("n h w c ->", ())
    x = raw(2, 3, 6, 6)
    folded = fold(model, norm)
    assert gap(folded(x), behind(model, norm, x, layout=None)) < 1e-12
    assert len(set(folded.folding.pad_values)) == 1


def test_a_normalizer_that_keeps_zero_needs_no_border():
    norm = colors(shift=np.zeros(3), offset=np.zeros(3))
    model = nn.Sequential(nn.Conv2d(3, 5, 3, padding=1, bias=False)).double()
    folded = fold(model, norm)
    assert type(folded[0]) is nn.Conv2d
    assert folded[0].bias is None
    assert folded.folding.border == "none"


@pytest.mark.parametrize("layout", ["hwc", "chw"])
def test_a_mean_image_into_a_linear_layer(layout):
    """Exactly, feature by feature, in the order in which the model flattens."""
    norm = normalizer("n h w c -> h w c", (4, 5, 3))
    model = nn.Sequential(nn.Flatten(), nn.Linear(60, 7)).double()
    x = raw(2, *((3, 4, 5) if layout == "chw" else (4, 5, 3)))
    folded = fold(model, norm, layout=layout)
    assert gap(folded(x), behind(model, norm, x, layout if layout == "chw" else None)) < 1e-12
    with pytest.raises(zm.PatternError, match="say layout='hwc' or layout='chw'"):
        fold(model, norm)


def test_channels_into_a_linear_layer():
    model = nn.Sequential(nn.Flatten(), nn.Linear(60, 7)).double()
    x = raw(2, 3, 4, 5)
    folded = fold(model, colors(), layout="chw")
    assert gap(folded(x), behind(model, colors(), x)) < 1e-12


def test_a_mean_image_into_a_convolution_is_a_map():
    norm = normalizer("n h w c -> h w c", (6, 5, 3), scale=np.ones((6, 5, 3)))
    model = nn.Sequential(nn.Conv2d(3, 4, 3, 2, padding=1), nn.ReLU()).double()
    x = raw(2, 3, 6, 5)
    folded = fold(model, norm, border="map")
    assert gap(folded(x), behind(model, norm, x)) < 1e-12
    with pytest.raises(zm.PatternError, match=r"vary over what Conv2d '0' treats alike.*'map'"):
        fold(model, norm)
    standardized = normalizer("n h w c -> h w c", (6, 5, 3))
    with pytest.raises(zm.PatternError, match="vary over what Conv2d '0' treats alike"):
        fold(model, standardized, border="map")


def test_reflected_mean_image_is_a_map_too():
    norm = normalizer("n h w c -> h w c", (6, 5, 3), scale=np.ones((6, 5, 3)))
    model = nn.Sequential(nn.Conv2d(3, 4, 3, padding=2, padding_mode="reflect")).double()
    x = raw(2, 3, 6, 5)
    assert gap(fold(model, norm, border="map")(x), behind(model, norm, x)) < 1e-12


def test_tables_and_sequences():
    table = normalizer("n d -> d", (6,))
    model = nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 2)).double()
    x = raw(5, 6)
    assert gap(fold(model, table)(x), behind(model, table, x)) < 1e-12
    sequence = normalizer("n t f -> f", (6,))
    x = raw(5, 7, 6)
    assert gap(fold(model, sequence)(x), behind(model, sequence, x)) < 1e-12
    anything = normalizer("... f -> f", (6,))
    assert gap(fold(model, anything)(x), behind(model, anything, x)) < 1e-12


# ---------------------------------------------------------------- whitening


def mixing(size, seed=3, out=None):
    return np.random.default_rng(seed).normal(size=(out or size, size)) / 50


@pytest.mark.parametrize("border", ["pad", "map"])
def test_color_whitening_into_a_convolution(border):
    norm = colors(matrix=mixing(3))
    model = nn.Sequential(nn.Conv2d(3, 4, 5, 2, padding=2, dilation=1), nn.ReLU()).double()
    x = raw(2, 3, 9, 8)
    folded = fold(model, norm, border=border, shape=(3, 9, 8))
    assert gap(folded(x), behind(model, norm, x)) < 1e-12


@pytest.mark.parametrize("layout", ["hwc", "chw"])
def test_full_whitening_into_a_linear_layer(layout):
    norm = normalizer("n h w c -> h w c", (4, 5, 3), matrix=mixing(60))
    model = nn.Sequential(nn.Flatten(), nn.Linear(60, 7)).double()
    x = raw(2, *((3, 4, 5) if layout == "chw" else (4, 5, 3)))
    folded = fold(model, norm, layout=layout)
    assert gap(folded(x), behind(model, norm, x, layout if layout == "chw" else None)) < 1e-11


def test_color_whitening_into_a_linear_layer():
    """Every pixel is mixed by itself, wherever its channels were flattened to."""
    norm = colors(matrix=mixing(3))
    model = nn.Sequential(nn.Flatten(), nn.Linear(60, 7)).double()
    x = raw(2, 3, 4, 5)
    assert gap(fold(model, norm, layout="chw")(x), behind(model, norm, x)) < 1e-12


def test_whitening_that_leaves_fewer_features():
    norm = normalizer("n d -> d", (6,), matrix=mixing(6, out=2))
    model = nn.Sequential(nn.Linear(2, 4)).double()
    folded, x = fold(model, norm), raw(5, 6)
    assert folded[0].in_features == 6
    assert gap(folded(x), behind(model, norm, x)) < 1e-12
    norm = colors(matrix=mixing(3, out=2))
    model = nn.Sequential(nn.Conv2d(2, 4, 3, padding=1)).double()
    folded, x = fold(model, norm), raw(2, 3, 6, 6)
    assert folded[0].in_channels == 3
    assert gap(folded(x), behind(model, norm, x)) < 1e-12
    flat = nn.Sequential(nn.Flatten(), nn.Linear(8, 4))
    with pytest.raises(zm.PatternError, match="leaves 8 of 60 features"):
        fold(flat, normalizer("n h w c -> h w c", (4, 5, 3), matrix=mixing(60, out=8)))


def test_measured_whitening_folds():
    """ZCA of colors that was measured; the folded weights take 0..255."""
    pictures = small_network.pictures()
    norm = zm.whiten(zm.measure(pictures, "n h w c -> c", covariance=True), "zca")
    model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU())
    x = torch.from_numpy(pictures[:8]).movedim(-1, 1)
    expected = behind(model, norm, x)
    folded = fold(model, norm)
    assert gap(folded(x.float()), expected) < 1e-5 * float(expected.detach().abs().max())


def test_whitening_across_groups_is_refused():
    model = nn.Sequential(nn.Conv2d(4, 8, 3, groups=2))
    with pytest.raises(zm.PatternError, match="2 groups of them apart"):
        fold(model, colors(4, matrix=mixing(4)))


# ---------------------------------------------------------------- what may lie in front


class Permuted(nn.Module):
    """Takes pictures with their channels last, as the data lies in memory."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)

    def forward(self, x):
        return self.conv(x.permute(0, 3, 1, 2).contiguous())


class Viewed(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(60, 7)

    def forward(self, x):
        return self.head(x.view(x.size(0), -1))


class Flipped(nn.Module):
    """BGR for a model of RGB, and a crop."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)

    def forward(self, x):
        return self.conv(x[:, [2, 1, 0], 1:, :-1])


FRONTS = {
    "identity": lambda: [nn.Identity(), nn.Conv2d(3, 4, 3, padding=1)],
    "dropout": lambda: [nn.Dropout(0.5), nn.Conv2d(3, 4, 3, padding=1)],
    "average": lambda: [nn.AvgPool2d(2), nn.Conv2d(3, 4, 3, padding=1)],
    "average, own zeros left out": lambda: [
        nn.AvgPool2d(3, 2, padding=1, count_include_pad=False),
        nn.Conv2d(3, 4, 3, padding=1),
    ],
    "adaptive average": lambda: [nn.AdaptiveAvgPool2d(3), nn.Flatten(), nn.Linear(27, 2)],
    "maximum": lambda: [nn.MaxPool2d(3, 2, padding=1), nn.Conv2d(3, 4, 3, padding=1)],
    "bilinear": lambda: [
        nn.Upsample(scale_factor=2, mode="bilinear"),
        nn.Conv2d(3, 4, 3, padding=1),
    ],
    "unshuffled": lambda: [nn.PixelUnshuffle(2), nn.Conv2d(12, 4, 3, padding=1)],
    "zeros": lambda: [nn.ZeroPad2d((1, 2, 3, 0)), nn.Conv2d(3, 4, 3, padding=1)],
    "a constant": lambda: [nn.ConstantPad2d(2, -0.5), nn.Conv2d(3, 4, 3, padding=1)],
    "reflected": lambda: [nn.ReflectionPad2d(2), nn.Conv2d(3, 4, 3)],
    "channels last": lambda: [Permuted()],
    "reversed": lambda: [Flipped()],
    "nested": lambda: [nn.Sequential(nn.Identity(), nn.Sequential(nn.Conv2d(3, 4, 3, padding=1)))],
    "batch norm behind": lambda: [
        nn.Conv2d(3, 4, 3, padding=1, bias=False),
        nn.BatchNorm2d(4),
        nn.ReLU(),
    ],
}


@pytest.mark.parametrize("front", FRONTS)
def test_what_lets_an_affine_map_pass(front):
    model = nn.Sequential(*FRONTS[front]()).double().eval()
    last = front == "channels last"
    x = raw(2, 8, 6, 3) if last else raw(2, 3, 8, 6)
    expected = behind(model, colors(), x, None if last else "chw")
    folded = fold(model, colors(), shape=x.shape[1:], layout=None if last else "chw")
    assert gap(folded(x), expected) < 1e-12
    assert gap(folded(x), model(x)) > 0.1, "the fold did nothing"


def test_views_by_size():
    model, x = Viewed().double(), raw(2, 3, 4, 5)
    assert gap(fold(model, colors(), layout="chw")(x), behind(model, colors(), x)) < 1e-12


def test_padding_modules_become_paddings_of_raw_values():
    folded = fold(nn.Sequential(nn.ZeroPad2d(1), nn.Conv2d(3, 4, 3)), colors(), shape=(3, 8, 8))
    assert type(folded[0]) is PadEach
    assert type(folded[1]) is nn.Conv2d


def test_padded_is_exact():
    x, values = raw(1, 2, 3, 2, dtype=torch.float32), torch.tensor([0.1, 7.0])
    y = padded(x, values, [[1, 0], [0, 2]])
    assert y.shape == (1, 2, 4, 4)
    assert torch.equal(y[:, :, 1:, :2], x)
    assert bool((y[0, 0, 0] == values[0]).all())
    assert bool((y[0, 1, :, 2:] == 7).all())


# ---------------------------------------------------------------- the module stays a module


def small():
    return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 2, 3))


def test_the_given_module_is_untouched():
    model = small().train()
    model[1].eval()
    before = copy.deepcopy(model.state_dict())
    folded = fold(model, colors())
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert [m.training for m in model.modules()] == [m.training for m in folded.modules()]
    assert not hasattr(model, "folding")
    assert set(folded.state_dict()) == {*before, "0.pad_values"}


def test_frozen_weights_and_memory_format_stay():
    model = small().requires_grad_(False).to(memory_format=torch.channels_last)
    model[0].bias = None
    folded = fold(model, colors())
    assert not any(p.requires_grad for p in folded.parameters())
    assert folded[0].weight.stride() == model[0].weight.stride()


def test_gradients_flow_and_modules_survive_saving(tmp_path):
    folded = fold(small(), colors())
    x = raw(2, 3, 8, 8, dtype=torch.float32)
    folded(x).sum().backward()
    assert folded[0].weight.grad.abs().sum() > 0
    torch.save(folded.state_dict(), tmp_path / "folded.pt")
    other = fold(small(), colors(seed=5))
    other.load_state_dict(torch.load(tmp_path / "folded.pt", weights_only=True))
    assert torch.equal(other(x), folded(x))
    assert "pad_values" in repr(folded)
    with pytest.raises(RuntimeError, match="pad_values"):
        small().load_state_dict(folded.state_dict())


def test_export_takes_any_batch():
    folded = fold(small(), colors(), input="uint8").eval()
    x = raw(2, 3, 8, 8, dtype=torch.uint8)
    n = torch.export.Dim("n", min=2, max=64)
    program = torch.export.export(folded, (x,), dynamic_shapes=({0: n},)).module()
    more = raw(5, 3, 8, 8, dtype=torch.uint8)
    assert torch.equal(program(more), folded(more))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("device", DEVICES)
def test_dtype_and_device_stay(dtype, device):
    model = small().to(dtype).to(device)
    folded = fold(model, colors(), input="uint8")
    x = raw(2, 3, 8, 8, dtype=torch.uint8).to(device)
    y = folded(x)
    assert (y.dtype, y.device) == (dtype, model[0].weight.device)
    record = folded.folding
    assert record.verified == f"PyTorch on {model[0].weight.device}"
    assert record.difference <= record.bound
    assert folded.half()(x).dtype == torch.float16


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("border", ["pad", "map"])
def test_float32_on_every_device(device, border):
    model = small().to(device)
    x = raw(4, 3, 16, 16, dtype=torch.float32).to(device)
    expected = behind(copy.deepcopy(model).double(), colors(), x.double())
    folded = fold(model, colors(), border=border, shape=(3, 16, 16))
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        assert gap(folded(x).double(), expected) < 1e-5 * float(expected.detach().abs().max())


# ---------------------------------------------------------------- refusals


class Shared(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(6, 6), nn.Linear(6, 6)
        self.second.weight = self.first.weight

    def forward(self, x):
        return self.second(self.first(x).relu())


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(6, 6)

    def forward(self, x):
        return self.first(self.first(x).relu())


class Skip(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, x):
        return x + self.conv(x)


class Divided(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, x):
        return self.conv(x / 255)


class Own(nn.Conv2d):
    def forward(self, x):
        return super().forward(x).abs()


class Branching(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, x):
        return self.conv(x) if x.sum() > 0 else x


class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, x, mask):
        return self.conv(x) * mask


def folded_already():
    return fold(small(), colors())


def parametrized():
    from torch.nn.utils.parametrizations import weight_norm

    return nn.Sequential(weight_norm(nn.Conv2d(3, 4, 3)))


def pruned():
    from torch.nn.utils import prune

    return nn.Sequential(prune.l1_unstructured(nn.Conv2d(3, 4, 3), "weight", 2))


def hooked():
    model = small()
    model[0].register_forward_pre_hook(lambda layer, args: (args[0] / 2,))
    return model


REFUSED = {
    "first operation on the input is ReLU '0'": lambda: nn.Sequential(
        nn.ReLU(), nn.Conv2d(3, 4, 3)
    ),
    "BatchNorm2d '0' stands before the first layer": lambda: nn.Sequential(
        nn.BatchNorm2d(3), nn.Conv2d(3, 4, 3)
    ),
    "InstanceNorm2d '0' stands .* not affine": lambda: nn.Sequential(
        nn.InstanceNorm2d(3), nn.Conv2d(3, 4, 3)
    ),
    "AvgPool2d '0' averages in zeros": lambda: nn.Sequential(
        nn.AvgPool2d(3, padding=1), nn.Conv2d(3, 4, 3)
    ),
    "Dropout '0' sets normalized values to 0 while training": lambda: nn.Sequential(
        nn.Dropout(), nn.Conv2d(3, 4, 3)
    ),
    "would reach 2 consumers": Skip,
    "begins with truediv": Divided,
    "arithmetic of its own": lambda: nn.Sequential(Own(3, 4, 3)),
    "cannot be traced .* layer=": Branching,
    r"uses 2 inputs \(x, mask\)": Two,
    "folded into Conv2d '0' of this model already": folded_already,
    "computed by a parametrization": parametrized,
    r"computed \(pruning\?\)": pruned,
    "a hook changes the input": hooked,
    "has 3 inputs, and the normalizer's|has 1 inputs": lambda: nn.Sequential(nn.Conv2d(1, 4, 3)),
    "without a Linear or Conv layer": nn.Identity,
    "ConvTranspose2d '0', which is no Linear or Conv": lambda: nn.Sequential(
        nn.ConvTranspose2d(3, 4, 3)
    ),
    r"DataParallel wraps the model; fold what is inside, model\.module": lambda: nn.DataParallel(
        small()
    ),
    "zeromean normalizer in it already": lambda: nn.Sequential(
        module(colors(), layout="chw"), nn.Conv2d(3, 4, 3)
    ),
}


@pytest.mark.parametrize("said", REFUSED)
def test_refusals_say_why(said):
    with pytest.raises(zm.ZeromeanError, match=said):
        fold(REFUSED[said](), colors())


@pytest.mark.parametrize(
    ("model", "said"),
    [(Shared, "shares its weights with 'second.weight'"), (Twice, "is used 2 times")],
)
def test_shared_weights_are_refused(model, said):
    with pytest.raises(zm.FormatError, match=said):
        fold(model(), normalizer("n d -> d", (6,)))


def test_four_channels_for_three_are_refused():
    with pytest.raises(zm.PatternError, match=r"has 3 inputs.*\(4,\).*come to 4"):
        fold(small(), colors(4))


def test_one_channel_for_three_is_refused():
    """One number fits every axis, so lengths do not tell; gray pictures unshuffled are fine."""
    gray = colors(1)
    with pytest.raises(zm.PatternError, match=r"has 3 inputs, and the normalizer.s \(1,\)"):
        fold(small(), gray)
    with pytest.raises(zm.PatternError, match="keeps"):
        fold(small(), gray, shape=(3, 8, 8))
    model = nn.Sequential(nn.PixelUnshuffle(2), nn.Conv2d(4, 2, 3, padding=1)).double()
    x = raw(2, 1, 8, 6)
    assert gap(fold(model, gray, shape=(1, 8, 6))(x), behind(model, gray, x)) < 1e-12


def test_a_maximum_under_a_negative_scale_is_refused():
    model = nn.Sequential(nn.MaxPool2d(2), nn.Conv2d(3, 4, 3))
    for norm in (colors(scale=np.array([1.0, -2.0, 3.0])), colors(matrix=mixing(3))):
        with pytest.raises(zm.PatternError, match="takes the largest normalized value"):
            fold(model, norm)


def test_quantized_weights_are_refused():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        quantized = torch.ao.quantization.quantize_dynamic(
            nn.Sequential(nn.Linear(6, 4)), {nn.Linear}, dtype=torch.qint8
        )
    with pytest.raises(zm.FormatError, match="quantized weights; fold before quantizing"):
        fold(quantized, normalizer("n d -> d", (6,)))


def test_numbers_that_are_not_known_are_refused():
    with pytest.raises(zm.PatternError, match="SampleNormalizer"):
        fold(small(), zm.per_sample(zm.standardize, "n h w c -> n"))
    with pytest.raises(zm.PatternError, match="a str has others"):
        fold(small(), "norm.json")
    with pytest.raises(zm.PatternError, match="keeps the samples"):
        fold(nn.Sequential(nn.Linear(6, 4)), normalizer("n d -> n d", (5, 6)))


def test_options_are_checked():
    for options, said in (
        ({"border": "ignore"}, "border is 'ignore'"),
        ({"input": "int8"}, "input is 'int8'"),
        ({"layout": "nchw"}, "layout is 'nchw'"),
        ({"border": "map"}, "give shape="),
        ({"layer": "9"}, "no layer '9'; it has 0, 2"),
        ({"layer": "1"}, "ReLU '1' is no plain"),
    ):
        with pytest.raises(zm.ZeromeanError, match=said):
            fold(small(), colors(), **options)
    unit = colors(dtype="float32", units=Units.of("float32", range_=(0, 1)))
    with pytest.raises(zm.UnitError, match=r"uint8 data is 0\.\.255"):
        fold(small(), unit, input="uint8")


def test_uint8_of_unknown_floats_is_a_question():
    for dtype in ("float32", "int64"):
        unknown = colors(dtype=dtype, units=Units())
        with pytest.raises(zm.UnitError, match=rf"the range of the {dtype} data .* is not known"):
            fold(small(), unknown, input="uint8")
    fold(small(), colors(units=Units()), input="uint8")


def test_floats_of_0_to_255_fold_into_a_module_of_bytes():
    norm = colors(dtype="float32", units=Units.of("float32", "RGB", range_=(0, 255)))
    model, x = small(), raw(2, 3, 8, 8)
    folded = fold(model, norm, input="uint8")
    assert folded.folding.fits
    assert gap(folded(x.to(torch.uint8)), behind(model, norm, x.float())) < 1e-4


def test_a_folded_module_says_what_it_expects():
    norm = colors(units=Units.of("uint8", "RGB"))
    folded = fold(small(), norm, input="uint8")
    assert folded.folding.expects == "uint8 0..255, RGB, axes (n, c, h, w)"
    assert "uint8 0..255, RGB" in repr(folded)
    assert fold(small().double(), norm).folding.expects == "float64 0..255, RGB, axes (n, c, h, w)"


@pytest.mark.parametrize("build", [small, lambda: nn.Conv2d(3, 4, 3)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_a_folded_module_refuses_other_units(build, dtype):
    """Floats of 0..1 for 0..255, which it would take without a word."""
    folded, x = fold(build().to(dtype), colors()), raw(2, 3, 8, 8).to(dtype)
    assert folded(x).isfinite().all()
    with pytest.raises(zm.UnitError, match=r"looks like 0\.\.1.*multiply the data by 255"):
        folded(x / 255)
    with pytest.raises(zm.UnitError, match="bring the data to that range first"):
        folded(x * 257)
    assert fold(build().to(dtype), colors(), check_units=False)(x / 255).isfinite().all()
    assert zm.fold(build().to(dtype), colors(), check_units=False)(x / 255).isfinite().all()


def test_a_module_of_bytes_refuses_anything_else():
    folded, x = fold(small(), colors(), input="uint8"), raw(2, 3, 8, 8)
    assert folded(x.to(torch.uint8)).isfinite().all()
    for wrong in (x.float() / 255, x.float(), x.to(torch.int64)):
        with pytest.raises(zm.UnitError, match=r"expects uint8 0\.\.255.*given torch\."):
            folded(wrong)


class Masked(nn.Module):
    """The raw data is the second argument; the first one is not used any more."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)

    def forward(self, mask, picture):
        return self.conv(picture)


def test_the_argument_that_is_raw_is_looked_at():
    folded, x = fold(Masked(), colors(), verify=False), raw(2, 3, 8, 8).float()
    mask = torch.rand(1)
    assert folded(mask, x).shape == folded(mask, picture=x).shape == (2, 4, 8, 8)
    for call in (lambda: folded(mask, x / 255), lambda: folded(mask=mask, picture=x / 255)):
        with pytest.raises(zm.UnitError, match="multiply the data by 255"):
            call()


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
@pytest.mark.parametrize("input", ["float", "uint8"])
def test_units_are_not_looked_at_while_recording(input):
    """Exporting, tracing and compiling see no values."""
    folded = fold(small(), colors(), input=input)
    x = raw(2, 3, 8, 8).to(torch.uint8 if input == "uint8" else torch.float32)
    program = torch.export.export(folded, (x,))
    assert gap(program.module()(x), folded(x)) < 1e-5
    assert gap(torch.jit.trace(folded, (x,))(x), folded(x)) < 1e-5
    plain = nn.Sequential(fold(nn.Sequential(nn.Conv2d(3, 4, 3)), colors(), input=input))
    assert gap(torch.fx.symbolic_trace(plain)(x), plain(x)) < 1e-5
    compiled = torch.compile(folded, backend="eager", fullgraph=True)
    assert gap(compiled(x), folded(x)) < 1e-5
    copied = copy.deepcopy(folded)
    assert gap(copied(x), folded(x)) == 0


def test_the_top_of_the_range_may_be_rounded():
    """65535 is 65536 in bfloat16: as near as it can be, and no other unit."""
    norm = colors(dtype="uint16", units=Units.of("uint16"), shift=np.full(3, 3e4), scale=[9e3] * 3)
    folded = fold(small().bfloat16(), norm)
    assert folded.folding.fits
    x = torch.tensor([0.0, 65535.0]).bfloat16().repeat(1, 3, 8, 4)
    assert folded(x).isfinite().all()
    with pytest.raises(zm.UnitError):
        folded(x * 2)


def test_a_named_layer_needs_no_trace():
    model, x = Branching().double(), raw(2, 3, 8, 8)
    assert gap(fold(model, colors(), layer="conv")(x), behind(model, colors(), x)) < 1e-12
    linear = normalizer("n h w c -> h w c", (4, 5, 3))
    model, x = Viewed().double(), raw(2, 3, 4, 5)
    folded = fold(model, linear, layer="head", layout="chw")
    assert gap(folded(x), behind(model, linear, x)) < 1e-12


def test_a_layer_alone():
    model, x = nn.Conv2d(3, 4, 3, padding=1).double(), raw(2, 3, 8, 8)
    assert gap(fold(model, colors())(x), behind(model, colors(), x)) < 1e-12


def test_a_named_layer_that_sees_something_else_is_found_out():
    """The promise is the caller's; running both shows that it does not hold."""
    with pytest.raises(zm.FormatError, match="the outputs differ by"):
        fold(nn.Sequential(nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)), colors(), layer="1")


def test_numbers_that_float32_cannot_hold_are_refused():
    """A shift of a million scales leaves no digits; float64 has them."""
    norm = colors(shift=np.full(3, 2e6), scale=np.ones(3), dtype="float32", units=Units())
    with pytest.raises(zm.FormatError, match="shift far larger than the scale"):
        fold(small(), norm)
    fold(small().double(), norm)


def test_a_model_of_one_size_is_not_verified_without_it():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4 * 15 * 11, 2))
    with pytest.warns(zm.ZeromeanWarning, match="is not verified: .* give shape="):
        folded = fold(model, colors())
    assert folded.folding.difference is None
    assert fold(model, colors(), shape=(3, 17, 13)).folding.difference is not None
    assert fold(model, colors(), shape=(3, 17, 13), verify=False).folding.difference is None


def test_a_check_that_cannot_fail_is_no_check():
    """A head of zeros gives the same for anything."""
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)
    )
    nn.init.zeros_(model[3].weight)
    record = fold(model, colors()).folding
    assert record.difference is None
    assert "the same for raw and for normalized probes" in record.sentence()


def test_zm_fold_takes_modules():
    folded = zm.fold(small(), colors(), layer="0")
    assert folded.folding.fits
    with pytest.raises(zm.PatternError, match="saved by torch"):
        zm.fold(small(), colors(), path="folded.onnx")
    with pytest.raises(zm.PatternError, match="named by layer='0'"):
        zm.fold(small(), colors(), name="0")


# ---------------------------------------------------------------- a trained network


@pytest.fixture(scope="module")
def trained():
    return small_network.trained()


@pytest.mark.parametrize("border", ["pad", "map"])
def test_a_trained_network_folds_exactly_and_the_naive_fold_does_not(trained, border):
    """Logits and every entry behind the first convolution within 1e-4, borders included."""
    model, norm, x, normalized = trained
    with torch.no_grad():
        logits, first = model(normalized), model[0](normalized)
        folded = fold(model, norm, border=border, shape=(3, 32, 32))
        assert gap(folded(x.float()), logits) < 1e-4
        assert gap(folded[0](x.float()), first) < 1e-4
        wrong = naive(model, norm)
        assert gap(wrong(x.float()), logits) > 0.05
        behind_naive = wrong[0](x.float())
        assert gap(behind_naive[..., 3:-3, 3:-3], first[..., 3:-3, 3:-3]) < 1e-4
        assert gap(border_of(behind_naive, 3), border_of(first, 3)) > 0.2
