"""`zm.export(norm, "onnx")`: alone or in front of a model, verified by ONNX Runtime."""

from __future__ import annotations

import numpy as np
import pytest
from click.testing import CliRunner

import zeromean as zm
from zeromean.exporters.exporting import export

onnx = pytest.importorskip("onnx", reason="the package onnx is not installed")
ort = pytest.importorskip("onnxruntime", reason="the package onnxruntime is not installed")

from onnx import parser  # noqa: E402

RAW = np.random.default_rng(12).integers(0, 256, (5, 6, 7, 3), dtype=np.uint8)
RECIPES = {
    "standardize": zm.standardize,
    "min_max": lambda p: zm.min_max(p, -1, 1),
    "zca": lambda p: zm.whiten(p, "zca"),
    "pca": lambda p: zm.whiten(p, "pca", n_components=2),
}


def norm_of(x=RAW, pattern="n h w c -> c", recipe="standardize", **options):
    whitens = recipe in ("zca", "pca")
    return RECIPES[recipe](zm.measure(x, pattern, covariance=whitens, **options))


def first(x):
    return np.ascontiguousarray(x.transpose(0, 3, 1, 2))


def run(content, **feeds):
    model = onnx.load_from_string(content)
    onnx.checker.check_model(model, full_check=True)
    session = ort.InferenceSession(content, providers=["CPUExecutionProvider"])
    feeds = feeds or {}
    return session.run(None, feeds)[0]


def net(kind="float", channels=3):
    model = parser.parse_model(
        f"""<ir_version: 8, opset_import: ["" : 17]>
        net ({kind}[n, {channels}, h, w] image) => ({kind}[n, {channels}, h, w] y)
        {{ y = MaxPool <kernel_shape = [1, 1]> (image) }}"""
    )
    onnx.checker.check_model(model, full_check=True)
    return model


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("layout", [None, "hwc", "chw"])
@pytest.mark.parametrize("pattern", ["n h w c -> c", "n c h w -> c"])
def test_alone_in_every_layout(pattern, layout, recipe):
    own = "chw" if pattern.startswith("n c") else "hwc"
    x = first(RAW) if own == "chw" else RAW
    norm = norm_of(x, pattern, recipe, channels="RGB")
    made = export(norm, "onnx", layout=layout)
    assert made.verification.ok, made
    assert made.verification.by.startswith("onnxruntime")
    axes = {"hwc": "(n, h, w, c)", "chw": "(n, c, h, w)"}[layout or own]
    assert made.expects == f"uint8 0..255, RGB, axes {axes}, as input 'raw'"
    raw = {"hwc": RAW, "chw": first(RAW)}[layout or own]
    y, truth = run(made.content, raw=raw), norm(x)
    if y.shape != truth.shape:
        truth = first(truth)
    if layout not in (None, own) and recipe != "pca":
        truth = first(norm(x)) if layout == "chw" else norm(x).transpose(0, 2, 3, 1)
    assert np.abs(y - truth).max() < 1e-5


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("kind", ["float", "float16", "double"])
def test_in_front_of_a_model(kind, recipe):
    if kind != "float" and recipe == "pca":
        return  # the model would take two channels of another dtype; nothing new
    norm = norm_of(recipe=recipe, channels="RGB")
    made = export(norm, "onnx", model=net(kind, 2 if recipe == "pca" else 3))
    assert made.verification.ok, made
    assert made.expects == "uint8 0..255, RGB, axes (n, h, w, c), as input 'image'"
    assert made.gives == "what the model gives: 'y'"
    casts = {"float": (), "float16": ("normalized data is then cast to float16",)}
    assert made.notes == casts.get(kind, ("normalized data is then cast to float64",))
    y = run(made.content, image=RAW)
    assert np.abs(y - first(norm(RAW))).max() < (1e-5 if kind != "float16" else 2e-3)


@pytest.mark.parametrize(
    ("pattern", "x"),
    [
        ("n d -> d", RAW.reshape(5, -1)[:, :9]),
        ("n d -> d", RAW.reshape(5, -1)[:, :9] / 7),
        ("n t f -> f", RAW[..., 0].astype(np.float32)),
        ("n h w c -> h w c", RAW),
        ("n h w c ->", RAW.astype(np.uint16) * 257),
        ("n h w -> h w", RAW[..., 0]),
        ("n d ->", RAW.reshape(5, -1).astype(np.int64)),
        ("n d -> d", RAW.reshape(5, -1)[:, :9].astype(np.float16)),
        ("n h w c -> c", RAW > 99),
    ],
)
def test_other_data_is_verified(pattern, x):
    norm = zm.min_max(zm.measure(x, pattern), -1, 1)
    made = export(norm, "onnx")
    assert made.verification.ok, made
    assert made.verification.bound <= 8
    assert np.abs(run(made.content, raw=x) - norm(x)).max() < 1e-6


def test_columns_of_several_dtypes_are_fed_as_float64():
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    frame = pandas.DataFrame({"a": np.arange(5), "b": np.linspace(0, 1, 5)})
    norm = zm.standardize(zm.measure(frame))
    made = export(norm, "onnx")
    assert made.verification.ok
    assert made.expects.endswith("axes (n, d), as float64 input 'raw'")
    assert (
        np.abs(run(made.content, raw=frame.to_numpy(np.float64)) - norm(frame)).max().max() < 1e-6
    )


def test_the_verification_notices_wrong_numbers(monkeypatch):
    from zeromean.graphs import splitting

    monkeypatch.setattr(splitting, "float32_scale", lambda scale: scale.astype(np.float32) * 1.0001)
    from zeromean.graphs import building

    monkeypatch.setattr(building, "float32_scale", splitting.float32_scale)
    assert not export(norm_of(), "onnx").verification.ok
    assert not export(norm_of(), "onnx", model=net()).verification.ok


def test_another_channel_order_alone():
    norm = norm_of(channels="RGB")
    made = export(norm, "onnx", channels="BGR")
    assert made.verification.ok
    assert made.expects.startswith("uint8 0..255, BGR, axes")
    y = run(made.content, raw=np.ascontiguousarray(RAW[..., ::-1]))
    assert np.abs(y - norm(RAW)[..., ::-1]).max() < 1e-6
    with pytest.raises(zm.PatternError, match="whitening mixes channels"):
        export(norm_of(recipe="zca", channels="RGB"), "onnx", channels="BGR")


def mixing_net(kind="float"):
    """Tells channels apart: each output has weights of its own for red, green and blue."""
    values = ", ".join(f"{v}" for v in (1, 2, 4, -1, 0.5, 3))
    return parser.parse_model(
        f"""<ir_version: 8, opset_import: ["" : 17]>
        net ({kind}[n, 3, h, w] image) => ({kind}[n, 2, h, w] y)
        <{kind}[2, 3, 1, 1] W = {{{values}}}> {{ y = Conv (image, W) }}"""
    )


@pytest.mark.parametrize("layout", [None, "hwc", "chw"])
@pytest.mark.parametrize("pattern", ["n h w c -> c", "n h w c -> h w c", "n h w c ->"])
def test_bgr_pictures_for_a_model_of_rgb(pattern, layout):
    """The channels of the pictures are not those of the model: it gets what it was trained on."""
    norm = norm_of(pattern=pattern, channels="RGB")
    options = {"model_layout": "chw"} if pattern.endswith("->") else {}
    made = export(norm, "onnx", model=mixing_net(), channels="BGR", layout=layout, **options)
    assert made.verification.ok, made
    assert made.expects.startswith("uint8 0..255, BGR, axes")
    assert made.notes == ("the model is given RGB, the order that was measured: swapped inside",)
    bgr = np.ascontiguousarray(RAW[..., ::-1])
    y = run(made.content, image=first(bgr) if layout == "chw" else bgr)
    wanted = run(mixing_net().SerializeToString(), image=first(norm(RAW)))
    assert np.abs(y - wanted).max() < 1e-5


def test_bgr_pictures_for_a_model_of_float16():
    """The swap stands behind the cast; what is judged is in float32 all the same."""
    norm = norm_of(channels="RGB")
    made = export(norm, "onnx", model=net("float16"), channels="BGR")
    assert made.verification.ok, made
    assert len(made.notes) == 2
    y = run(made.content, image=np.ascontiguousarray(RAW[..., ::-1]))
    assert np.abs(y - first(norm(RAW))).max() < 2e-3


def test_an_order_that_is_only_said_swaps_nothing():
    norm = norm_of()
    made = export(norm, "onnx", model=mixing_net(), channels="BGR")
    assert made.verification.ok
    assert made.notes == ()
    wanted = run(mixing_net().SerializeToString(), image=first(norm(RAW)))
    assert np.abs(run(made.content, image=RAW) - wanted).max() < 1e-5


def test_a_forced_export_says_so():
    own = parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 17]>
        net (float[n, 3, h, w] image) => (float[n, 3, h, w] y)
        <float m = {128}, float s = {64}>
        { d = Sub (image, m)
          q = Div (d, s)
          y = MaxPool <kernel_shape = [1, 1]> (q) }"""
    )
    with pytest.raises(zm.UnitError, match=r"model model.onnx`; pass force=True \(--force\)"):
        export(norm_of(), "onnx", model=own)
    made = export(norm_of(), "onnx", model=own, force=True)
    assert made.notes == (
        "normalized twice, as it was forced: the model itself does more to its input "
        "(Sub, Div before MaxPool)",
    )
    assert export(norm_of(), "onnx", model=net(), force=True).notes == ()
    floats = norm_of((RAW / 255).astype(np.float32))
    once = export(floats, "onnx", model=net())
    again = export(floats, "onnx", model=once.value, force=True)
    assert "(standardize, which zeromean has put in front)" in again.notes[0]


def test_refusals():
    with pytest.raises(zm.PatternError, match="fits any number of axes"):
        export(norm_of(pattern="... c -> c"), "onnx")
    made = export(norm_of(pattern="... c -> c"), "onnx", model=net())
    assert "as input 'image'" in made.expects
    with pytest.raises(zm.PatternError, match="layout='chw' is about pictures with channels"):
        export(norm_of(RAW[..., 0], "n t f -> f"), "onnx", layout="chw")


def test_the_command(tmp_path, monkeypatch):
    from zeromean.cli import main

    monkeypatch.chdir(tmp_path)
    norm_of(channels="RGB").save("norm.json")
    onnx.save(net(), "net.onnx")
    call = ["export", "norm.json", "--to", "onnx", "--model", "net.onnx", "-o", "served.onnx"]
    result = CliRunner().invoke(main, call)
    assert result.exit_code == 0, result.output
    assert "as input 'image'" in result.output
    assert "verified by onnxruntime" in result.output
    y = run((tmp_path / "served.onnx").read_bytes(), image=RAW)
    assert np.abs(y - first(norm_of()(RAW))).max() < 1e-6
    result = CliRunner().invoke(main, [*call[:5], "served.onnx", "-o", "again.onnx"])
    assert result.exit_code == 2
    result = CliRunner().invoke(main, [*call[:4], "--model", "served.onnx", "-o", "again.onnx"])
    assert result.exit_code == 2
    assert "holds a normalizer of zeromean already" in result.output


def test_what_belongs_to_a_model_needs_one():
    for option in ({"input": "x"}, {"model_layout": "chw"}, {"force": True}):
        with pytest.raises(zm.PatternError, match="says something of a model; give model= too"):
            export(norm_of(), "onnx", **option)
        with pytest.raises(zm.PatternError, match="does nothing for NumPy code"):
            export(norm_of(), "numpy", **option)


def test_options_of_the_model_reach_it():
    """Twice normalized when forced; the layout and the input that were named."""
    norm = norm_of()
    once = export(norm, "onnx", model=net())
    with pytest.raises(zm.UnitError, match=r"force=True \(--force\)"):
        export(norm, "onnx", model=once.value)
    two = parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 17]>
        net (float[n, a, b, d] left, float[n, a, b, d] right) => (float[n, a, b, d] y)
        { y = Add (left, right) }"""
    )
    with pytest.raises(zm.PatternError):
        export(norm, "onnx", model=two)
    made = export(norm, "onnx", model=two, input="right", model_layout="chw")
    y = run(made.content, left=np.zeros((5, 3, 6, 7), np.float32), right=RAW)
    np.testing.assert_allclose(y, norm(RAW, layout="chw"), rtol=1e-6, atol=1e-6)
