"""Export: what is written carries the numbers, is run for proof, or is refused with the repair."""

from __future__ import annotations

import dataclasses
import math
import shutil
from fractions import Fraction

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import assume, given
from hypothesis import strategies as st

import zeromean as zm
from zeromean.cli import main
from zeromean.exporters import exporting, targets
from zeromean.exporters.channels import channels_of, error_of, one_scale
from zeromean.exporters.forms import form_of, plain_numbers
from zeromean.exporters.probing import compare, probes
from zeromean.exporters.targets import HOMES, CannotRun, Made, Target, target_named

PICTURES = np.random.default_rng(0).integers(0, 256, (6, 5, 7, 3), dtype=np.uint8)
TOOLS = {
    "numpy": "python3",
    "c": "gcc",
    "javascript": "node",
    "markdown": "python3",
    "json": "python3",
}
CODE = [
    pytest.param(name, marks=pytest.mark.skipif(not shutil.which(tool), reason=f"no {tool} here"))
    for name, tool in TOOLS.items()
]


def rgb(pattern="n h w c -> c", recipe=zm.standardize, channels="RGB", data=PICTURES):
    return recipe(zm.measure(data, pattern, channels=channels))


def shaped(pattern, dtype):
    """Data of a dtype for a pattern."""
    random = np.random.default_rng(1)
    shape = {"n": 9, "h": 4, "w": 5, "c": 3, "d": 4, "t": 6, "f": 2}
    sizes = [shape[name] for name in pattern.split("->")[0].split()]
    return random.integers(0, 120, sizes).astype(dtype)


# ---------------------------------------------------------------- plain code

PATTERNS = (
    "n h w c -> c",
    "n c h w -> c",
    "n h w c -> h w c",
    "n h w c ->",
    "n h w -> h w",
    "n d -> d",
    "n t f -> f",
    "n h w c -> w",
)


@pytest.mark.parametrize("target", CODE)
@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("dtype", ["uint8", "int16", "float32", "float64"])
def test_code_gives_the_exact_answer_rounded_once(target, pattern, dtype):
    """Every kind of pattern and dtype, standardized and with an offset."""
    profile = zm.measure(shaped(pattern, dtype), pattern)
    for norm in (zm.standardize(profile), zm.min_max(profile, -1, 1)):
        if target == "markdown" and norm.shift.size > 64:
            with pytest.raises(zm.PatternError, match="more than 64 belong in a file"):
                zm.export(norm, target)
            continue
        found = zm.export(norm, target).verification
        assert found.ulp <= 0.51
        assert found.ok
        assert found.n_values > 100


@pytest.mark.parametrize("target", [p for p in CODE if p.values[0] != "markdown"])
@pytest.mark.parametrize("channels", [1, 2])
def test_code_of_few_channels(target, channels):
    """One channel leaves nothing to broadcast over, and must not become an empty reshape."""
    gray = zm.standardize(zm.measure(PICTURES[..., :channels], "n h w c -> c"))
    assert zm.export(gray, target).verification.ulp <= 0.51


@pytest.mark.parametrize("target", [p for p in CODE if p.values[0] != "markdown"])
def test_code_of_a_table_whose_columns_differ(target):
    """Columns of int64 and float64: nothing narrower than double holds them."""
    random = np.random.default_rng(2)
    table = {
        "age": random.integers(18, 80, 60),
        "income": random.lognormal(10, 0.5, 60),
        "share": random.random(60),
    }
    norm = zm.standardize(zm.measure(pytest.importorskip("pandas").DataFrame(table)))
    assert norm.dtype == "int64,float64,float64"
    made = zm.export(norm, target)
    assert made.verification.ulp <= 0.51
    if target == "c":
        assert "(const double *x, float *y" in made.text


@pytest.mark.parametrize("target", CODE[:3])
@pytest.mark.parametrize("pattern", ["n h w c -> c", "n h w c -> h w c", "n c h w -> c"])
def test_code_for_another_order(target, pattern):
    """Channels and layout as the place of serving has them; the answers are the same."""
    data = PICTURES.transpose(0, 3, 1, 2) if pattern.startswith("n c") else PICTURES
    norm = rgb(pattern, data=np.ascontiguousarray(data))
    made = zm.export(norm, target, channels="BGR", layout="chw")
    assert made.expects == "uint8 0..255, BGR, axes (n, c, h, w)"
    assert made.verification.ulp <= 0.51
    with pytest.raises(zm.UnitError, match="no reordering"):
        zm.export(norm, target, channels="XYZ")
    whitened = zm.whiten(zm.measure(PICTURES, "n h w c -> c", covariance=True, channels="RGB"))
    with pytest.raises(zm.PatternError, match="another order than the matrix"):
        zm.export(whitened, target, channels="BGR")


@pytest.mark.parametrize("target", [p for p in CODE if p.values[0] != "markdown"])
@pytest.mark.parametrize(
    ("pattern", "keep"), [("n h w c -> c", 2), ("n c h w -> c", None), ("n d -> d", 3)]
)
def test_code_mixes_features(target, pattern, keep):
    profile = zm.measure(shaped(pattern, "uint8"), pattern, covariance=True)
    norm = zm.whiten(profile, "pca", n_components=keep)
    assert zm.export(norm, target).verification.ulp <= 0.51


@pytest.mark.skipif(not shutil.which("gcc"), reason="no gcc here")
def test_c_counts_values_with_a_matrix_too(tmp_path):
    """The call that the documentation shows stays within its memory for every recipe."""
    import subprocess

    from zeromean.exporters.c_header import compiled

    program = """#include <stdio.h>
#include "exported.h"
int main(void) { uint8_t x[105]; float y[105 + 105]; size_t i;
for (i = 0; i < 210; ++i) y[i] = 7.0f;
if (fread(x, 1, 105, stdin) != 105) return 1;
zeromean_normalize(x, y, 5 * 7 * 3);
for (i = 105; i < 210; ++i) if (y[i] != 7.0f) return 2;
return fwrite(y, 4, 105, stdout) != 105; }"""
    profile = zm.measure(PICTURES, "n h w c -> c", covariance=True)
    for norm in (zm.standardize(profile), zm.whiten(profile, "zca")):
        (folder := tmp_path / norm.recipe).mkdir()
        run = compiled(zm.export(norm, "c").content, program, folder)
        y = subprocess.run([run], input=PICTURES[0].tobytes(), capture_output=True, check=True)
        values = np.frombuffer(y.stdout, np.float32).reshape(5, 7, 3)
        np.testing.assert_array_equal(values, norm(PICTURES[0]))


@pytest.mark.skipif(not shutil.which("gcc"), reason="no gcc here")
def test_c_moves_channels_in_front(tmp_path):
    """The planar function is the other one, transposed; also behind a matrix."""
    import subprocess

    from zeromean.exporters.c_header import compiled

    program = """#include <stdio.h>
#include "exported.h"
int main(void) { uint8_t x[105]; float y[105];
if (fread(x, 1, 105, stdin) != 105) return 1;
zeromean_normalize_chw(x, y, 35); return fwrite(y, 4, 105, stdout) != 105; }"""
    profile = zm.measure(PICTURES, "n h w c -> c", covariance=True)
    for norm in (zm.standardize(profile), zm.whiten(profile, "zca")):
        (folder := tmp_path / norm.recipe).mkdir()
        run = compiled(zm.export(norm, "c").content, program, folder)
        y = subprocess.run([run], input=PICTURES[0].tobytes(), capture_output=True, check=True)
        planar = np.frombuffer(y.stdout, np.float32).reshape(3, 5, 7)
        np.testing.assert_array_equal(planar, norm(PICTURES[0], layout="chw"))


@pytest.mark.skipif(not shutil.which("node"), reason="no node here")
def test_javascript_reads_a_canvas():
    """RGBA bytes of a canvas become planar floats; alpha is dropped."""
    from zeromean.exporters.javascript import in_node

    norm = rgb()
    rgba = np.dstack([PICTURES[0], np.full((5, 7, 1), 255, np.uint8)])
    code = """import fs from "node:fs";
import { fromImageData, expects } from "./exported.mjs";
if (!expects.includes("RGB")) throw new Error(expects);
const data = new Uint8ClampedArray(fs.readFileSync(0));
fs.writeSync(1, Buffer.from(fromImageData({ data, width: 7, height: 5 }).buffer));"""
    y = np.frombuffer(in_node(zm.export(norm, "javascript").content, code, rgba.tobytes()), "f4")
    np.testing.assert_array_equal(y.reshape(3, 5, 7), norm(PICTURES[0], layout="chw"))
    gray = zm.standardize(zm.measure(PICTURES[..., :1], "n h w c -> c", channels="L"))
    assert "fromImageData" not in zm.export(gray, "javascript").text


def test_code_that_cannot_walk_is_refused():
    apart = rgb("n h w c -> h c")
    for target in ("c", "javascript"):
        with pytest.raises(zm.PatternError, match="do not lie side by side"):
            zm.export(apart, target)
    assert zm.export(apart, "numpy").verification.ok
    groups = zm.zero_mean(zm.measure(PICTURES[..., :2], zm.Pattern.parse("n h w (g c) -> g", c=1)))
    with pytest.raises(zm.PatternError, match="plain axes, kept in their own order"):
        zm.export(groups, "numpy")
    big = zm.zero_mean(zm.measure(np.zeros((1, 300_000), np.uint8), "n d -> d"))
    with pytest.raises(zm.PatternError, match=r"300,000 numbers.*export to onnx or torch"):
        zm.export(big, "c")


def test_comments_cannot_be_escaped():
    """A file's name cannot end the comment that it stands in."""
    for target in ("c", "javascript", "numpy", "markdown"):
        code = zm.export(rgb(), target, name='x*/ int evil; /* """ \n os.x()', verify=False).text
        assert "*/ int" not in code
        assert '"""' not in code.split("\n")[0][3:]
        assert "\n os.x()" not in code


# ---------------------------------------------------------------- verification


def lying(monkeypatch, wrong):
    """A target whose run is off in some way."""

    def make(norm, order):
        return Made(b"", None, "what there is", "float32", norm)

    target = Target("numpy", "Liar", (".txt",), make, lambda made, x: wrong(made.carried, x))
    monkeypatch.setattr(exporting, "target_named", lambda name: target)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda norm, x: norm(x) + np.float32(1e-5),
        lambda norm, x: norm(x[..., ::-1]),
        lambda norm, x: norm(x) * np.float32(1.00001),
        lambda norm, x: np.where(x == 255, np.nan, norm(x)),
        lambda norm, x: (x - norm.shift.astype("f2")) / norm.scale,
    ],
)
def test_a_wrong_target_is_found_out(monkeypatch, wrong):
    """The check of exports can fail: small shifts, swapped channels, NaN, half precision."""
    lying(monkeypatch, wrong)
    made = zm.export(rgb(), "numpy")
    assert not made.verification.ok
    assert "WRONG" in repr(made)


def test_a_right_target_is_not(monkeypatch):
    lying(monkeypatch, lambda norm, x: norm(x))
    assert zm.export(rgb(), "numpy").verification.ulp <= 0.5


def test_a_target_that_cannot_be_run_says_so(monkeypatch):
    def absent(norm, x):
        raise CannotRun("there is no engine here")

    lying(monkeypatch, absent)
    made = zm.export(rgb(), "numpy")
    assert made.verification is None
    assert "not verified: there is no engine here" in repr(made)
    assert "not verified: it was not asked for" in repr(zm.export(rgb(), "numpy", verify=False))


def test_another_shape_is_no_answer():
    x = probes(rgb())
    with pytest.raises(ValueError, match="gave shape"):
        compare(rgb(), x, x[0], "float32")


@given(st.floats(0.1, 250), st.floats(0.01, 100), st.sampled_from(["float32", "float64"]))
def test_differences_are_those_of_fractions(shift, scale, arithmetic):
    """ulp and raw units of a known error, against the definition."""
    norm = dataclasses.replace(
        rgb("n h w c ->"), shift=np.array(shift), scale=np.array(scale), kept_shape=()
    )
    x = np.array([[[[7]]]], np.uint8)
    y = np.full(x.shape, (7 - shift) / scale * 1.25)
    ulp, raw, count = compare(norm, x, y, arithmetic)
    exact = (7 - Fraction(shift)) / Fraction(scale)
    error = abs(Fraction(float(y.item())) - exact)
    size = max(7, shift) / scale
    assume(abs(math.log2(size) - round(math.log2(size))) > 1e-9)  # rounding may cross a power
    assert count == 1
    assert raw == pytest.approx(float(error) * scale, rel=1e-12)
    digits = {"float32": 24, "float64": 53}[arithmetic]
    power = Fraction(1)
    while power > size:  # one unit in the last place is 2^(1 - digits) of the power of two below
        power /= 2
    while 2 * power <= size:
        power *= 2
    assert ulp == pytest.approx(float(error / power * 2 ** (digits - 1)), rel=1e-12)


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_probes_hold_the_ends_and_what_is_near_the_shift(pattern, dtype):
    norm = zm.standardize(zm.measure(shaped(pattern, dtype), pattern, range=(0, 200)))
    x = probes(norm)
    norm.check_shape(x.shape)
    assert x.dtype == dtype
    assert (x.min(), x.max()) == (0, 200)
    if norm.shift.size < 64:
        nearness = np.abs(x - norm.pattern.spread(norm.shift, x.shape))
        assert nearness.min() < (0.51 if dtype != "float32" else 1e-4)


# ---------------------------------------------------------------- forms and channels


def test_forms():
    kinds = {
        "n h w c -> c": ("pictures", "hwc", "channel"),
        "n c h w -> c": ("pictures", "chw", "channel"),
        "n b y x -> b": ("pictures", "chw", "channel"),
        "n y x b -> b": ("pictures", "hwc", "channel"),
        "n h w c -> h w c": ("pictures", "hwc", "pixel"),
        "n c h w -> c h w": ("pictures", "chw", "pixel"),
        "n h w c ->": ("pictures", "hwc", "one"),
        "n h w -> h w": ("pictures", "hw", "pixel"),
        "n d -> d": ("rows", "", "feature"),
        "n t f -> f": ("other", "", "other"),
    }
    for pattern, expected in kinds.items():
        x = np.zeros([2] * len(pattern.split("->")[0].split()), np.uint8)
        form = form_of(zm.zero_mean(zm.measure(x, pattern)))
        assert (form.kind, form.layout, form.keeps) == expected, pattern


def test_the_offset_goes_into_the_shift():
    norm = rgb(recipe=lambda p: zm.min_max(p, -1, 1))
    shift, scale = plain_numbers(norm)
    x = np.arange(256.0)
    np.testing.assert_allclose((x - shift[0]) / scale[0], (x - norm.shift[0]) / norm.scale[0] - 1)
    assert plain_numbers(rgb())[0] is rgb().shift or (plain_numbers(rgb())[0] == rgb().shift).all()


def test_channels_in_0_1_are_divided_once():
    norm = rgb()
    held = channels_of(norm, "T", to_unit=True)
    assert held.mean.tolist() == [float(Fraction(v) / 255) for v in norm.shift.tolist()]
    assert held.std.tolist() == [float(Fraction(v) / 255) for v in norm.scale.tolist()]
    assert (held.order, held.lost, len(held)) == ("RGB", "", 3)


def test_channels_are_reordered_when_asked():
    held = channels_of(rgb(channels="BGR"), "T", to_unit=False, wants="RGB", declared="RGB")
    assert held.mean.tolist() == rgb().shift[::-1].tolist()
    assert held.order == "RGB"


def test_one_number_serves_every_channel():
    norm = rgb("n h w c ->")
    held = channels_of(norm, "T", to_unit=False, declared="RGB")
    assert held.mean.tolist() == [float(norm.shift)] * 3
    assert len(channels_of(norm, "T", to_unit=False)) == 3  # the units name three channels


@pytest.mark.parametrize(
    ("norm", "options", "error", "words"),
    [
        (
            rgb(channels="BGR"),
            {"wants": "RGB"},
            zm.UnitError,
            "for BGR, and T feeds RGB: channels=",
        ),
        (rgb(channels=""), {"wants": "RGB"}, zm.UnitError, "is not recorded: say channels='RGB'"),
        (rgb(), {"declared": "RGX"}, zm.UnitError, "no reordering of the measured channels 'RGB'"),
        (rgb(), {"wants": "RGB", "declared": "BGR"}, zm.UnitError, "T feeds RGB, not BGR"),
        (
            rgb(channels=""),
            {"declared": "RG"},
            zm.UnitError,
            "names 2 channels, but 3 were measured",
        ),
        (
            zm.standardize(
                zm.measure(
                    np.dstack([PICTURES.reshape(6, 35, 3)] * 2)[:, None, :, :4], "n h w c -> c"
                )
            ),
            {"counts": (1, 3)},
            zm.PatternError,
            "takes 1 or 3 channels, and the normalizer has 4: measure the channels",
        ),
        (
            zm.standardize(zm.measure(PICTURES.astype("f4"), "n h w c -> c")),
            {"to_unit": True},
            zm.UnitError,
            "the measured data is not known: measure with range=",
        ),
        (
            zm.standardize(
                zm.measure(PICTURES.astype("f4") - 128, "n h w c -> c", range=(-128, 127))
            ),
            {"to_unit": True},
            zm.UnitError,
            "is -128..127: measure it as it was before",
        ),
        (
            zm.standardize(zm.measure(PICTURES.reshape(-1, 3))),
            {},
            zm.PatternError,
            "not of that kind: measure with 'n h w c -> c', or export to torch",
        ),
        (
            zm.whiten(zm.measure(PICTURES, "n h w c -> c", covariance=True)),
            {},
            zm.PatternError,
            "mixes the features with a matrix; export to torch",
        ),
    ],
)
def test_what_channels_cannot_hold_is_refused_with_the_repair(norm, options, error, words):
    with pytest.raises(error) as caught:
        channels_of(norm, "T", **{"to_unit": False, **options})
    assert words in str(caught.value)


def test_a_mean_image_becomes_the_pooled_numbers():
    """What remains of a mean image is what measuring per channel would have given."""
    held = channels_of(rgb("n h w c -> h w c"), "T", to_unit=False)
    assert held.lost.startswith("a mean image")
    np.testing.assert_allclose(held.mean, rgb().shift, rtol=1e-14)
    np.testing.assert_allclose(held.std, rgb().scale, rtol=1e-14)
    centered = channels_of(rgb("n h w c -> h w c", zm.zero_mean), "T", to_unit=False)
    assert centered.std.tolist() == [1, 1, 1]


@given(st.integers(0, 2**32))
def test_the_error_of_an_approximation_is_the_largest_there_is(seed):
    """Against all 256 values of every channel."""
    random = np.random.default_rng(seed)
    norm = dataclasses.replace(
        rgb(), shift=random.uniform(0, 255, 3), scale=random.uniform(1, 90, 3)
    )
    one, lost = one_scale(norm)
    assert lost
    x = np.arange(256.0)[:, None]
    there, here = ((x - m.shift) / m.scale for m in (norm, one))
    assert error_of(norm, one) == pytest.approx(
        (np.abs(there - here) * norm.scale).max(), rel=1e-12
    )


def test_one_scale_is_the_best_there_is():
    """No other single scale has a smaller largest error of y on centered data."""
    norm = rgb(data=PICTURES // np.array([1, 2, 4], np.uint8))
    best = one_scale(norm)[0].scale[0]

    def worst(scale):
        return np.abs(1 / scale - 1 / norm.scale).max()

    assert worst(best) <= min(worst(s) for s in np.linspace(10, 100, 2000)) + 1e-12
    assert one_scale(rgb(recipe=zm.zero_mean))[1] == ""


# ---------------------------------------------------------------- export itself


def test_targets_are_those_of_the_command():
    """Every name has a module and a target of that name, with a title and suffixes."""
    for name in HOMES:
        target = target_named(name)
        assert target.name == name
        assert target.title
        assert all(suffix.startswith(".") for suffix in target.suffixes)
        assert target.options <= {
            *("layout", "channels", "model", "existing"),
            *("input", "model_layout", "force"),
        }
    help_text = CliRunner().invoke(main, ["export", "--help"]).output
    assert all(name in help_text for name in HOMES)
    with pytest.raises(zm.PatternError, match=r"no target 'tf'; the targets are torch, "):
        zm.export(rgb(), "tf")


def test_what_is_no_normalizer_is_refused():
    profile = zm.measure(PICTURES, "n h w c -> c")
    with pytest.raises(zm.PatternError, match=r"export zm.standardize\(profile\)"):
        zm.export(profile, "numpy")
    with pytest.raises(zm.PatternError, match="takes a normalizer, not a dict"):
        zm.export({}, "numpy")
    grouped = zm.measure(PICTURES, "n h w c -> c", by=["a", "b"] * 3).normalizers(zm.zero_mean)
    with pytest.raises(zm.PatternError, match="normalizer_for"):
        zm.export(grouped, "numpy")


def test_idle_options_are_refused():
    with pytest.raises(
        zm.PatternError, match=r"layout='chw' \(--layout\) does nothing for Model card"
    ):
        zm.export(rgb(), "markdown", layout="chw")
    with pytest.raises(zm.PatternError, match="the choice is 'hwc', 'chw'"):
        zm.export(rgb(), "numpy", layout="nchw")


def test_a_loss_is_refused_with_its_error_or_accepted_with_it(monkeypatch):
    def make(norm, order):
        one, lost = one_scale(norm)
        return Made(b"", None, "pictures", "float32", one, lost)

    target = Target("numpy", "One scale", (".txt",), make, lambda made, x: made.carried(x))
    monkeypatch.setattr(exporting, "target_named", lambda name: target)
    norm = rgb(data=PICTURES // np.array([1, 2, 4], np.uint8))
    with pytest.raises(zm.UnitError) as caught:
        zm.export(norm, "numpy")
    error = error_of(norm, one_scale(norm)[0])
    assert f"off by up to {error:.3g} gray levels" in str(caught.value)
    assert "--approximate" in str(caught.value)
    made = zm.export(norm, "numpy", approximate=True)
    assert made.approximation == error > 1
    assert made.verification.ok
    assert f"off by up to {error:.3g} gray levels" in repr(made)


def test_files(tmp_path):
    path = tmp_path / "norm.py"
    made = zm.export(rgb(), "numpy", path)
    assert path.read_text() == made.text
    binary = dataclasses.replace(made, content=b"\xff\xfe\xff")
    with pytest.raises(zm.FormatError, match="binary file; write it with save"):
        _ = binary.text
    with pytest.raises(zm.FormatError, match="nowhere"):
        zm.export(rgb(), "numpy", tmp_path / "nowhere" / "norm.py")


# ---------------------------------------------------------------- the command


def run(*arguments):
    return CliRunner().invoke(main, ["export", *map(str, arguments)])


def test_command_writes_and_prints(tmp_path):
    rgb().save(tmp_path / "norm.json")
    zm.measure(PICTURES, "n h w c -> c", channels="RGB").save(tmp_path / "train.json")
    printed = run(tmp_path / "norm.json", "--to", "numpy")
    assert printed.exit_code == 0
    assert printed.stdout == zm.export(rgb(), "numpy", name="norm.json").text
    assert "NumPy code: standardize, (x - [" in printed.stderr
    assert "expects uint8 0..255, RGB, axes (n, h, w, c)" in printed.stderr
    assert "verified by numpy" in printed.stderr
    made = run(
        tmp_path / "train.json",
        "--method",
        "standardize",
        "--to",
        "numpy",
        "-q",
        "--no-verify",
        "-o",
        tmp_path / "norm.py",
    )
    assert (made.exit_code, made.output) == (0, "")
    scope = {}
    exec((tmp_path / "norm.py").read_text(), scope)
    np.testing.assert_array_equal(scope["normalize"](PICTURES), rgb()(PICTURES))


def test_command_refuses_in_a_sentence(tmp_path):
    rgb().save(tmp_path / "norm.json")
    wrong = run(tmp_path / "norm.json", "--to", "numpy", "-o", tmp_path / "norm.c")
    assert wrong.exit_code == 2
    assert "must end in .py" in wrong.output
    wrong = run(tmp_path / "absent.json", "--to", "numpy")
    assert wrong.exit_code == 2
    assert "absent.json" in wrong.output
    wrong = run(tmp_path / "norm.json", "--to", "tensorflow")
    assert wrong.exit_code == 2
    wrong = run(tmp_path / "norm.json", "--to", "torch")
    assert "binary file; give -o FILE.pt2" in wrong.output


def test_command_ends_with_1_when_the_numbers_are_wrong(tmp_path, monkeypatch):
    rgb().save(tmp_path / "norm.json")
    real = target_named("numpy")
    wrong = dataclasses.replace(real, run=lambda made, x: made.carried(x) + 1)
    monkeypatch.setattr(exporting, "target_named", lambda name: wrong)
    found = run(tmp_path / "norm.json", "--to", "numpy")
    assert found.exit_code == 1
    assert "do not use it" in found.output


def test_command_wants_to_know_the_method_of_a_profile(tmp_path):
    """Zero-mean by default would ship a model other numbers than it was trained with."""
    zm.measure(PICTURES, "n h w c -> c", channels="RGB").save(tmp_path / "train.json")
    asked = run(tmp_path / "train.json", "--to", "numpy")
    assert asked.exit_code == 2
    assert "train.json is a profile: say what the model was trained with" in asked.output


def test_command_does_not_write_over_what_it_reads(tmp_path):
    rgb().save(tmp_path / "norm.json")
    before = (tmp_path / "norm.json").read_bytes()
    wrong = run(tmp_path / "norm.json", "--to", "json", "-o", tmp_path / "." / "norm.json")
    assert wrong.exit_code == 2
    assert "is what is read" in wrong.output
    assert (tmp_path / "norm.json").read_bytes() == before


def test_our_own_file_comes_back(tmp_path):
    zm.export(rgb(), "json", tmp_path / "norm.json")
    assert zm.load(tmp_path / "norm.json") == rgb()


def test_the_recipe_and_its_numbers_are_said():
    profile = zm.measure(PICTURES, "n h w c -> c", covariance=True, channels="RGB")
    few = ", ".join(f"{v:.5g}" for v in profile.mean)
    lines = {
        zm.zero_mean: f"NumPy code: zero mean, x - [{few}]",
        zm.whiten: f"NumPy code: whiten pca, (x - [{few}]) by a matrix of 3 x 3",
        lambda p: zm.min_max(p, -1, 1): "NumPy code: min max, (x - 0) / [127, 127, 127.5] + -1",
    }
    for recipe, line in lines.items():
        assert zm.export(recipe(profile), "numpy").lines[0] == line


def test_gray_levels_are_those_of_a_display():
    """An error of 0..1 data is not in gray levels: there it would be 255 times as large."""
    units = {np.uint8: "gray levels", np.float32: "units of the raw data"}
    for dtype, unit in units.items():
        data = PICTURES.astype(dtype) / (1 if dtype == np.uint8 else 255)
        norm = zm.standardize(
            zm.measure(
                data.astype(dtype), "n h w c -> c", range=(0, 255 if dtype == np.uint8 else 1)
            )
        )
        assert f" {unit} (bound" in repr(zm.export(norm, "numpy"))


def test_help_loads_nothing_heavy():
    assert targets.__name__ == "zeromean.exporters.targets"
    import subprocess
    import sys

    code = "import sys, zeromean.cli; print('numpy' in sys.modules, 'torch' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.split() == ["False", "False"]
