"""Export to PyTorch: programs and state dicts, run by PyTorch itself, beside the exact answers."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

import zeromean as zm  # noqa: E402
from zeromean.exporters import targets  # noqa: E402
from zeromean.exporters.probing import compare, probes  # noqa: E402
from zeromean.exporters.torch_program import loaded, through  # noqa: E402

R = np.random.default_rng(5)


def pictures(n=8, h=5, w=6, c=3, dtype=np.uint8):
    top = np.iinfo(dtype).max
    return R.integers(0, top + 1, (n, h, w, c)).astype(dtype)


def first(x):
    """Channels first."""
    return np.moveaxis(x, -1, 1)


def cases():
    x, tables = pictures(), R.normal(40, 3, (50, 4))
    small = pictures(300, 2, 2)
    yield "channels", zm.standardize(zm.measure(x, "n h w c -> c", channels="RGB"))
    yield "channels first", zm.standardize(zm.measure(first(x), "n c h w -> c"))
    yield "min_max, an offset", zm.min_max(zm.measure(x, "n h w c -> c"), -1, 1)
    yield "uint16", zm.standardize(zm.measure(pictures(dtype=np.uint16), "n h w c -> c"))
    yield "four channels", zm.standardize(zm.measure(pictures(c=4), "n h w c -> c"))
    yield "mean image", zm.standardize(zm.measure(x, "n h w c -> h w c"))
    yield "mean image, first", zm.standardize(zm.measure(first(x), "n c h w -> c h w"))
    yield "one number", zm.standardize(zm.measure(x, "n h w c ->"))
    yield "gray", zm.zero_mean(zm.measure(x[..., 0], "n h w -> h w"))
    yield "columns", zm.standardize(zm.measure(tables))
    yield "float32 columns", zm.max_abs(zm.measure(tables.astype(np.float32)))
    yield "groups", zm.standardize(zm.measure(pictures(c=6), "n h w (g c) -> g", g=2))
    yield "frames", zm.standardize(zm.measure(x[None], "n t h w c -> c"))
    yield "colors", zm.whiten(zm.measure(x, "n h w c -> c", covariance=True), "zca")
    yield (
        "whole pictures",
        zm.whiten(zm.measure(small, "n h w c -> h w c", covariance=True), "zca", eps=1e-3),
    )
    yield "fewer features", zm.whiten(zm.measure(tables, covariance=True), n_components=2)
    yield "fewer colors", zm.whiten(zm.measure(x, "n h w c -> c", covariance=True), n_components=2)
    yield (
        "fewer colors, first",
        zm.whiten(zm.measure(first(x), "n c h w -> c", covariance=True), n_components=2),
    )


CASES = dict(cases())
PICTURES = [
    name for name, norm in CASES.items() if str(norm.pattern).split("->")[0].count(" ") == 4
]


def program_of(content):
    return loaded(content).module()


# ---------------------------------------------------------------- programs


@pytest.mark.parametrize("name", CASES)
def test_a_program_is_within_its_bound(name):
    """0.51 ulp of float32: one rounding, and what float64 leaves."""
    made = zm.export(CASES[name], "torch")
    assert made.verification.bound == 0.51
    assert made.verification.ok, made
    assert made.verification.by.startswith("torch ")
    assert made.lost == ""


@pytest.mark.parametrize("layout", ["hwc", "chw"])
@pytest.mark.parametrize("name", PICTURES)
def test_both_layouts_give_the_bits_of_the_normalizer(name, layout):
    norm = CASES[name]
    made = zm.export(norm, "torch", layout=layout, verify=norm.matrix is not None)
    assert norm.matrix is None or made.verification.ok
    x = probes(norm)
    own_first = norm.pattern.axes[1] == ("c",)
    there = np.moveaxis(x, 1, -1) if own_first else x  # channels last
    fed = first(there) if layout == "chw" else there
    y = program_of(made.content)(torch.from_numpy(np.ascontiguousarray(fed))).numpy()
    if norm.matrix is not None:
        assert y.dtype == np.float32  # sums of products have no one order: `ok` compares these
        return
    expected = np.moveaxis(norm(x), 1, -1) if own_first else norm(x)
    np.testing.assert_array_equal(y, first(expected) if layout == "chw" else expected)


def test_axes_that_are_not_kept_have_any_length():
    norm = CASES["channels"]
    program = program_of(zm.export(norm, "torch").content)
    for shape in ((1, 3, 1, 1), (7, 3, 2, 9), (0, 3, 4, 4)):
        x = torch.randint(0, 256, shape, dtype=torch.uint8)
        expected = first(norm(np.moveaxis(x.numpy(), 1, -1)))
        np.testing.assert_array_equal(program(x).numpy(), expected)


def test_a_program_refuses_other_dtypes_and_channels():
    """What a loaded program is fed by mistake must not pass for data."""
    program = program_of(zm.export(CASES["channels"], "torch").content)
    with pytest.raises(RuntimeError, match="dtype"):
        program(torch.zeros(1, 3, 4, 4))
    with pytest.raises((AssertionError, RuntimeError)):
        program(torch.zeros(1, 4, 4, 4, dtype=torch.uint8))


def test_a_program_runs_where_zeromean_is_not_installed(tmp_path):
    norm, x = CASES["channels"], pictures(3, 4, 9)
    zm.export(norm, "torch", tmp_path / "norm.pt2")
    np.save(tmp_path / "x.npy", np.ascontiguousarray(first(x)))
    code = """
import sys
sys.modules["zeromean"] = None
import numpy as np, torch
folder = sys.argv[1]
program = torch.export.load(folder + "/norm.pt2").module()
np.save(folder + "/y.npy", program(torch.from_numpy(np.load(folder + "/x.npy"))).numpy())
try:
    import zeromean
except ImportError:
    print("without")
"""
    command = [sys.executable, "-W", "ignore", "-c", code, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.stdout.split() == ["without"], done.stderr
    np.testing.assert_array_equal(np.load(tmp_path / "y.npy"), first(norm(x)))


def test_a_program_carries_the_normalizer_and_no_path_of_this_machine():
    norm = CASES["channels"]
    content = zm.export(norm, "torch").content
    extra = {"zeromean.json": ""}
    torch.export.load(io.BytesIO(content), extra_files=extra)
    assert zm.Normalizer.from_document(json.loads(extra["zeromean.json"]), {}) == norm
    assert b".py" not in content
    assert zm.export(norm, "torch", verify=False).content == content


def test_the_value_is_the_module():
    made = zm.export(CASES["channels"], "torch", verify=False)
    x = pictures()
    y = made.value(torch.from_numpy(np.ascontiguousarray(first(x)))).numpy()
    np.testing.assert_array_equal(y, first(CASES["channels"](x)))


def test_a_program_with_wrong_numbers_is_found_out():
    """The check can fail: one scale is off by one part in a million."""
    norm = CASES["channels"]
    kind = targets.target_named("torch")
    wrong = kind.make(replace(norm, scale=norm.scale * (1 + 1e-6)), targets.Order())
    x = probes(norm)
    ulp, _, _ = compare(norm, x, kind.run(wrong, x), "float32")
    assert ulp > wrong.bound


def test_layouts_and_open_patterns_are_refused_with_the_repair():
    with pytest.raises(zm.PatternError, match=r"layout='hwc' is for pictures .* leave it out"):
        zm.export(CASES["columns"], "torch", layout="hwc")
    open_ended = zm.standardize(zm.measure(pictures(), "n ... c -> c"))
    with pytest.raises(zm.PatternError, match=r"measure with all axes named, or .* torch-state"):
        zm.export(open_ended, "torch")


def test_bfloat16_programs_are_made_and_said_not_to_be_verified():
    norm = replace(CASES["float32 columns"], dtype="bfloat16")
    made = zm.export(norm, "torch")
    assert made.verification is None
    assert "takes torch.bfloat16 alone" in made.unverified
    x = torch.tensor([[40.0, 41.5, 38.0, 40.5]], dtype=torch.bfloat16)
    expected = norm(x.to(torch.float64).numpy())
    np.testing.assert_array_equal(program_of(made.content)(x).numpy(), expected)


# ---------------------------------------------------------------- state dicts


@pytest.mark.parametrize("name", CASES)
def test_a_state_is_within_its_bound(name):
    made = zm.export(CASES[name], "torch-state")
    assert made.verification.ok, made
    assert made.verification.bound == 0.51


@pytest.mark.parametrize("name", ["channels", "mean image", "min_max, an offset", "colors"])
def test_a_state_is_plain_tensors_and_a_normalizer(name, tmp_path):
    from safetensors.torch import load_file

    norm, path = CASES[name], tmp_path / "state.safetensors"
    made = zm.export(norm, "torch-state", path)
    state = load_file(path)
    assert set(state) == {"shift", "scale", "offset"} | ({"matrix"} & set(state))
    for key, tensor in state.items():
        assert tensor.dtype == torch.float64
        np.testing.assert_array_equal(tensor.numpy(), getattr(norm, key))
        assert torch.equal(tensor, made.value[key])
    assert (norm.matrix is not None) == ("matrix" in state)
    module = replace(norm, shift=norm.shift + 1).torch()
    assert not module.load_state_dict(state).missing_keys
    x = torch.from_numpy(pictures())
    assert torch.equal(module(x), norm.torch()(x))
    assert zm.load(path) == norm


@pytest.mark.parametrize(
    "name", ["channels", "channels first", "mean image", "columns", "colors", "min_max, an offset"]
)
def test_the_formula_in_the_notes_is_right(name):
    """What people without zeromean are told to write gives the same numbers."""
    norm = CASES[name]
    made = zm.export(norm, "torch-state", verify=False)
    formula = made.notes[0].removeprefix("elsewhere: ").split(", features")[0]
    x = torch.from_numpy(probes(norm))
    y = eval(formula, {"x": x, **made.value})
    assert torch.equal(y.float(), torch.from_numpy(norm(x.numpy())))


def test_a_state_is_checked_whole():
    """The check can fail: a state that lacks a tensor is no state."""
    from safetensors.torch import load, save

    made = zm.export(CASES["channels"], "torch-state", verify=False)
    tensors = load(made.content)
    del tensors["scale"]
    short = targets.Made(save(tensors), None, "", "", CASES["channels"])
    with pytest.raises(RuntimeError, match="scale"):
        targets.target_named("torch-state").run(short, pictures())


def test_without_pytorch_a_state_is_written_and_a_program_says_what_to_install(monkeypatch):
    norm = CASES["channels"]
    content = zm.export(norm, "torch-state", verify=False).content
    for name in [n for n in sys.modules if n.split(".")[0] == "torch"]:
        monkeypatch.setitem(sys.modules, name, None)
    state = zm.export(norm, "torch-state")
    assert state.content == content
    assert state.unverified == "PyTorch is not installed"
    np.testing.assert_array_equal(state.value["shift"], norm.shift)
    with pytest.raises(ImportError, match=r'pip install "zeromean\[torch\]"'):
        zm.export(norm, "torch")


# ---------------------------------------------------------------- on a GPU

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


@needs_cuda
@pytest.mark.parametrize("name", CASES)
def test_a_program_gives_the_same_on_a_gpu(name):
    """A program is bound to the device it was traced on; PyTorch's own pass moves it."""
    from torch.export.passes import move_to_device_pass

    norm = CASES[name]
    program = loaded(zm.export(norm, "torch", verify=False).content)
    x = probes(norm)
    kind = targets.target_named("torch")
    made = kind.make(norm, targets.Order())
    moved = move_to_device_pass(program, "cuda").module()

    def on_gpu(tensor):
        y = moved(tensor.cuda())
        assert y.device.type == "cuda"
        return y.cpu()

    y = through(norm, made.layout, made.dtype, on_gpu, x)
    ulp, _, _ = compare(norm, x, y, "float32")
    assert ulp <= made.bound
    if norm.matrix is None:
        np.testing.assert_array_equal(y, norm(x))


@needs_cuda
def test_a_state_gives_the_same_on_a_gpu():
    from safetensors.torch import load

    norm, x = CASES["channels"], pictures()
    module = norm.torch().cuda()
    module.load_state_dict(load(zm.export(norm, "torch-state", verify=False).content))
    y = module(torch.from_numpy(x).cuda()).cpu().numpy()
    np.testing.assert_array_equal(y, norm(x))
