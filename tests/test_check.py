"""`zm.check` finds the normalization inside a model, whatever it is written with."""

from __future__ import annotations

import json

import numpy as np
import pytest
from click.testing import CliRunner

import zeromean as zm

onnx = pytest.importorskip("onnx", reason="the package onnx is not installed")

from onnx import TensorProto, helper, numpy_helper, parser  # noqa: E402

from zeromean.diagnosis.checking import check  # noqa: E402
from zeromean.diagnosis.findings import Finding, Findings  # noqa: E402
from zeromean.graphs import metadata  # noqa: E402
from zeromean.graphs.building import build  # noqa: E402
from zeromean.graphs.inspecting import inspect  # noqa: E402
from zeromean.graphs.merging import merge  # noqa: E402

RAW = np.random.default_rng(4).integers(0, 256, (4, 6, 7, 3), dtype=np.uint8)
NORM = zm.standardize(zm.measure(RAW, "n h w c -> c", channels="RGB"))
MEAN, STD = NORM.shift / 255, NORM.scale / 255


def lit(values):
    return ", ".join(f"{v:.9g}" for v in np.ravel(values))


def net(before, constants="", dims="n, 3, h, w", kind="float", to="z", opset=17):
    """A model with some lines of ONNX text between its input x and a convolution of `to`."""
    text = f"""<ir_version: 8, opset_import: ["" : {opset}]>
    net ({kind}[{dims}] x) => (float[n, 2, a, b] y)
    <float[2, 3, 1, 1] kernel = {{1, 2, 3, 4, 5, 6}}{", " + constants if constants else ""}>
    {{ {before} y = Conv ({to}, kernel) }}"""
    model = parser.parse_model(text)
    onnx.checker.check_model(model, full_check=True)
    return model


def vectors(mean=MEAN, std=STD, shape="3, 1, 1"):
    return f"float[{shape}] mean = {{{lit(mean)}}}, float[{shape}] std = {{{lit(std)}}}"


RESCALE = "float[1] top = {255}"

SAME = {
    "sub div in 0..1": net("c = Sub (x, mean) z = Div (c, std)", vectors()),
    "raw numbers": net("c = Sub (x, mean) z = Div (c, std)", vectors(NORM.shift, NORM.scale)),
    "rescaled first": net(
        "u = Div (x, top) c = Sub (u, mean) z = Div (c, std)", vectors() + ", " + RESCALE
    ),
    "multiplied and added": net(
        "c = Mul (std, x) z = Add (mean, c)", vectors(-NORM.shift / NORM.scale, 1 / NORM.scale)
    ),
    "constants worked out": net(
        f"""flat = Constant <value_floats = [{lit(MEAN)}]> ()
        axes = Constant <value_ints = [1, 2]> ()
        mean2 = Unsqueeze (flat, axes) variance = Mul (std, std) again = Sqrt (variance)
        half = Cast <to = 1> (x) c = Sub (half, mean2) z = Div (c, again)""",
        f"float[3, 1, 1] std = {{{lit(STD)}}}",
    ),
    "channels last": net(
        "c = Sub (x, mean) d = Div (c, std) z = Transpose <perm = [0, 3, 1, 2]> (d)",
        vectors(shape="3"),
        "n, h, w, 3",
    ),
    "transposed first": net(
        "t = Transpose <perm = [0, 3, 1, 2]> (x) c = Sub (t, mean) z = Div (c, std)",
        vectors(),
        "n, h, w, 3",
    ),
    "bytes in": net(
        "f = Cast <to = 1> (x) c = Sub (f, mean) z = Div (c, std)",
        vectors(NORM.shift, NORM.scale),
        kind="uint8",
    ),
    "negated": net("c = Sub (mean, x) m = Neg (c) z = Div (m, std)", vectors()),
    "resized between": net(
        """c = Sub (x, mean) r = Resize <mode = "linear"> (c, , sizes) z = Div (r, std)""",
        vectors() + ", float[4] sizes = {1, 1, 2, 2}",
    ),
    "depthwise 1x1": net(
        "z = Conv <group = 3> (x, std, mean)",
        f"float[3, 1, 1, 1] std = {{{lit(1 / STD)}}}, float[3] mean = {{{lit(-MEAN / STD)}}}",
    ),
    "diagonal 1x1": net(
        "z = Conv (x, w, mean)",
        f"float[3, 3, 1, 1] w = {{{lit(np.diag(1 / STD))}}}, "
        f"float[3] mean = {{{lit(-MEAN / STD)}}}",
    ),
    "channels reversed": net(
        "b = Gather <axis = 1> (x, swap) c = Sub (b, mean) z = Div (c, std)",
        vectors(MEAN[::-1], STD[::-1]) + ", int64[3] swap = {2, 1, 0}",
    ),
    "reversed by a slice": net(
        "b = Slice (x, from, to, at, by) c = Sub (b, mean) z = Div (c, std)",
        vectors(MEAN[::-1], STD[::-1])
        + ", int64[1] from = {-1}, int64[1] to = {-9}, int64[1] at = {1}, int64[1] by = {-1}",
    ),
    "old opset": net("c = Sub (x, mean) z = Div (c, std)", vectors(), opset=9),
}


def apart(take):
    """torchvision's transform_input and its relatives: channels one by one."""
    lines, joined = [], []
    for i in range(3):
        lines.append(take(i))
        lines.append(f"m{i} = Mul (u{i}, a{i}) z{i} = Add (m{i}, b{i})")
        joined.append(f"z{i}")
    constants = ", ".join(
        f"float a{i} = {{{1 / STD[i]:.9g}}}, float b{i} = {{{-MEAN[i] / STD[i]:.9g}}}, "
        f"int64 i{i} = {{{i}}}, int64[1] f{i} = {{{i}}}, int64[1] t{i} = {{{i + 1}}}"
        for i in range(3)
    )
    constants += ", int64[1] one = {1}, int64[3] thirds = {1, 1, 1}"
    return net(f"{' '.join(lines)} z = Concat <axis = 1> ({', '.join(joined)})", constants)


SAME["gathered apart"] = apart(
    lambda i: f"g{i} = Gather <axis = 1> (x, i{i}) u{i} = Unsqueeze (g{i}, one)"
)
SAME["sliced apart"] = apart(lambda i: f"u{i} = Slice (x, f{i}, t{i}, one)")
SAME["split apart"] = apart(lambda i: "u0, u1, u2 = Split <axis = 1> (x, thirds)" if i == 0 else "")


@pytest.mark.parametrize("name", SAME)
def test_the_same_numbers_are_found_however_they_are_written(name):
    found = check(NORM, model=SAME[name])
    assert "twice" in found, found
    assert not found.ok
    assert "normalized twice" in found["twice"].sentence
    in_raw = name in ("raw numbers", "multiplied and added", "bytes in", "rescaled first")
    assert ("divided by 255" in found["twice"].repair) == (not in_raw)
    inside = inspect(SAME[name])
    unit = 1 if in_raw else 255
    last = inside.dims[-1] == 3
    wanted = NORM.shift if last else NORM.shift[:, None, None]
    assert np.allclose(inside.shift * unit, wanted, rtol=1e-6)


@pytest.mark.parametrize("name", SAME)
def test_a_tenth_more_is_another_normalization(name):
    other = zm.standardize(zm.measure((RAW * 0.9).astype(np.uint8), "n h w c -> c"))
    found = check(other, model=SAME[name])
    assert "numbers" in found, found
    assert "by other numbers" in found["numbers"].sentence
    assert "gray levels off" in found["numbers"].sentence


def test_the_size_of_the_difference_is_stated():
    shifted = net(
        "c = Sub (x, mean) z = Div (c, std)", vectors(NORM.shift + np.array([0, 5, 0]), NORM.scale)
    )
    sentence = check(NORM, model=shifted)["numbers"].sentence
    assert "up to 5 gray levels off" in sentence
    published = net(
        "c = Sub (x, mean) z = Div (c, std)", vectors(np.round(MEAN, 3), np.round(STD, 3))
    )
    sentence = check(NORM, model=published)["twice"].sentence
    assert "by the same numbers (within 0." in sentence


def test_nothing_inside():
    found = check(NORM, model=net("z = Identity (x)"))
    assert found.ok
    assert [f.name for f in found] == ["none", "layout"]
    assert found["none"].sentence.startswith(
        "no normalization was found before the model's first C"
    )
    assert "norm(x, layout='chw')" in found["layout"].sentence


def test_only_a_rescale():
    for model in (
        net("z = Div (x, top)", RESCALE),
        net("f = Cast <to = 1> (x) z = Mul (f, k)", f"float k = {{{1 / 255:.9g}}}", kind="uint8"),
    ):
        found = check(NORM, model=model)
        assert found["rescale"].sentence.startswith("the model divides its input 'x' by 255 itself")
        assert not found.ok
    doubled = check(NORM, model=net("z = Add (x, x)"))
    assert "none" in doubled  # no constant: that is a layer


def test_minus_one_to_one():
    found = check(
        NORM,
        model=net("h = Div (x, half) z = Sub (h, one)", "float half = {127.5}, float one = {1}"),
    )
    assert "it subtracts 127.5 and divides by 127.5" in found["numbers"].sentence
    same = zm.min_max(
        zm.measure(
            np.array([[0], [255]], np.uint8)[:, None, None, :].repeat(3, -1), "n h w c -> c"
        ),
        -1,
        1,
    )
    assert "twice" in check(
        same,
        model=net("h = Div (x, half) z = Sub (h, one)", "float half = {127.5}, float one = {1}"),
    )


def test_a_model_that_takes_normalized_data_and_rescales_it():
    """GoogLeNet of torchvision, with transform_input: ImageNet's numbers in, -1..1 inside."""
    for low, high in ((-1, 1), (0, 1), (0, 255)):
        gain = NORM.scale * (high - low) / 255
        bias = low + NORM.shift * (high - low) / 255
        model = net("m = Mul (x, std) z = Add (m, mean)", vectors(bias, gain))
        found = check(NORM, model=model)
        assert found.ok, found
        named = {-1: "-1..1", 0: "0..1" if high == 1 else "raw"}[low]
        assert f"gives {named} data" in found["renormalizes"].sentence
    half = vectors(bias / 2, gain / 2)
    assert not check(NORM, model=net("m = Mul (x, std) z = Add (m, mean)", half)).ok


def batch_norm(mean, variance):
    constants = ", ".join(
        f"float[3] {n} = {{{lit(v)}}}"
        for n, v in (("g", [1, 2, 3]), ("b", [0, 0, 1]), ("m", mean), ("v", variance))
    )
    return net("z = BatchNormalization (x, g, b, m, v)", constants)


def test_batch_norm_first_tells_what_the_model_was_trained_on():
    found = check(NORM, model=batch_norm([0.01, -0.02, 0], [1, 0.98, 1.01]))
    assert found.ok
    assert "centered like this" in found["batch-norm"].sentence
    found = check(NORM, model=batch_norm(NORM.shift + 1, NORM.scale**2))
    assert not found.ok
    assert "trained on raw data" in found["batch-norm"].sentence
    assert found["batch-norm"].repair == "Give it raw data, not normalized."
    found = check(NORM, model=batch_norm(MEAN, STD**2))
    assert "trained on data in 0..1" in found["batch-norm"].sentence
    found = check(NORM, model=batch_norm([40, 40, 40], [9, 9, 9]))
    assert not found.ok
    assert "has seen mean 40 and std 3" in found["batch-norm"].sentence


def test_each_sample_by_itself():
    instance = net(
        "z = InstanceNormalization (x, g, b)", "float[3] g = {1, 1, 1}, float[3] b = {0, 0, 0}"
    )
    assert "per-sample" in check(NORM, model=instance)
    centered = net("m = ReduceMean <axes = [1, 2, 3]> (x) z = Sub (x, m)")
    assert "per-sample" in check(NORM, model=centered)


def test_channels_and_shapes():
    four = zm.standardize(zm.measure(np.concatenate([RAW, RAW[..., :1]], -1), "n h w c -> c"))
    found = check(four, model=net("z = Identity (x)"))
    assert "but the normalizer has numbers for 4 c" in found["shape"].sentence
    assert not found.ok
    rows = zm.standardize(zm.measure(RAW.reshape(4, -1).T.astype(float)))
    assert (
        "names 2 axes, but the tensor has 4"
        in check(rows, model=SAME["raw numbers"])["shape"].sentence
    )
    found = check(NORM, model=net("z = Identity (x)"), channels="BGR")
    assert "wants BGR, but the normalizer was measured on RGB" in found["channels"].sentence
    found = check(NORM, model=SAME["channels reversed"])
    assert "of RGB, its first layer gets BGR" in found["channels"].sentence
    assert found["channels"].severity == "note"


def test_integers_without_a_normalization():
    found = check(NORM, model=net("z = Cast <to = 1> (x)", kind="uint8"))
    assert "takes uint8" in found["dtype"].sentence
    assert not found.ok


def test_hostile_models_cost_nothing():
    """Constants of a terabyte, axes without end, a graph that feeds itself."""
    huge = net(
        "big = ConstantOfShape (size) far = Expand (one, size) s = Add (big, far) z = Sub (x, s)",
        vectors() + ", float one = {1}, int64[3] size = {1, 1000000, 1000000}",
    )
    long = net(
        "b = Slice (x, from, to, at) z = Identity (b)",
        "int64[1] from = {0}, int64[1] to = {3}, int64[1] at = {2}",
        "n, 3, 9000000000000000000, w",
    )
    for model in (huge, long):
        assert "none" in check(NORM, model=model)
    model = net("z = Sub (x, c)", "float c = {1}")
    del model.graph.initializer[:]
    for name, other in (("c", "d"), ("d", "c")):
        model.graph.node.insert(0, helper.make_node("Neg", [other], [name]))
    assert "none" in check(NORM, model=model)


def test_unclear_inputs_are_asked_for():
    text = """<ir_version: 8, opset_import: ["" : 17]>
    net (float[n, 3] p, float[n, 3] q) => (float[n, 3] y) { y = Add (p, q) }"""
    model = parser.parse_model(text)
    norm = zm.standardize(zm.measure(np.random.default_rng(0).normal(size=(9, 3))))
    with pytest.raises(zm.PatternError, match=r"'p', 'q'.*say so with input="):
        check(norm, model=model)
    assert check(norm, model=model, input="q").ok


# ---------------------------------------------------------------- models of ours


def test_merged_models_are_known_again():
    model = merge(net("z = Identity (x)"), NORM)
    found = check(NORM, model=model)
    assert found.ok
    assert "holds this very normalizer, in front of its layers" in found["inside"].sentence
    assert "give it raw uint8 (RGB 0..255), not normalized" in found["inside"].sentence
    other = zm.zero_mean(zm.measure(RAW, "n h w c -> c", channels="RGB"))
    found = check(other, model=model)
    assert not found.ok
    assert "holds another normalizer" in found["numbers"].sentence
    assert "inside" in check(NORM, model=build(NORM))


def test_without_its_metadata_it_is_a_model_like_any_other():
    for layout in ("nhwc", "nchw"):
        model = merge(net("z = Identity (x)"), NORM, layout=layout)
        metadata.forget(model)
        found = check(NORM, model=model)
        assert "by the same numbers (within" in found["twice"].sentence
        assert inspect(model).dtype == "uint8"


def test_a_model_that_was_edited_afterwards():
    model = merge(net("z = Identity (x)"), NORM)
    place = next(t for t in model.graph.initializer if t.name.endswith("scale"))
    place.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(place) * 2, place.name))
    found = check(NORM, model=model)
    assert "edited afterwards" in found["metadata"].sentence
    assert not found.ok


SCALES = {
    "its own of 0..1": ("c = Sub (x, mean) z = Div (c, std)", vectors(), "subtracts 0.4"),
    "another one": (
        "c = Sub (x, mean) z = Div (c, std)",
        vectors(MEAN + 0.1, STD),
        "subtracts 0.5",
    ),
    "raw": (
        "c = Sub (x, mean) z = Div (c, std)",
        vectors(NORM.shift, NORM.scale),
        "subtracts 1",
    ),
    "a rescale": ("z = Div (x, top)", RESCALE, "subtracts 0 and divides by 255"),
}


@pytest.mark.parametrize("layout", ["nhwc", "nchw"])
@pytest.mark.parametrize("name", SCALES)
def test_ours_forced_in_front_of_its_own_is_twice(name, layout, tmp_path):
    """Also from a file; and nobody says that it was edited, for it was not."""
    before, constants, words = SCALES[name]
    model = merge(net(before, constants), NORM, layout=layout, force=True)
    onnx.save(model, tmp_path / "twice.onnx")
    for held in (model, tmp_path / "twice.onnx"):
        found = check(NORM, model=held)
        assert not found.ok
        assert [f.name for f in found] == ["twice", "inside"]
        assert "ours (standardize of RGB 0..255) stands in front of the model's own" in str(found)
        assert words in found["twice"].sentence
        assert "not normalized" not in found["inside"].sentence


def test_ours_in_front_of_what_rescales_what_we_give_is_once():
    """A network that takes data normalized by ImageNet's numbers and makes -1..1 of it."""
    gain, bias = 2 * STD, 2 * MEAN - 1
    inner = net("c = Mul (x, std) z = Add (c, mean)", vectors(bias, gain))
    found = check(NORM, model=merge(inner, NORM, force=True))
    assert found.ok, found
    assert "both together give -1..1 data" in found["renormalizes"].sentence
    assert "give it raw uint8" in found["inside"].sentence


def test_ours_twice_over():
    """The second time by force: the metadata are of the one in front."""
    model = merge(merge(net("z = Identity (x)"), NORM, input_dtype="float32"), NORM, force=True)
    said = check(NORM, model=model)["twice"].sentence
    assert "stands in front of the model's own (Sub, Sub, Div before Conv)" in said


def test_an_edit_behind_ours_is_no_edit_of_ours():
    model = merge(net("c = Sub (x, mean) z = Div (c, std)", vectors()), NORM, force=True)
    place = next(t for t in model.graph.initializer if t.name.endswith("scale"))
    place.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(place) * 2, place.name))
    assert {"metadata", "twice"} <= {f.name for f in check(NORM, model=model)}


# ---------------------------------------------------------------- units

UNIT = zm.standardize(zm.measure((RAW / 255).astype(np.float32), "n h w c -> c", channels="RGB"))
UNIT_1 = zm.standardize(
    zm.measure((RAW / 255).astype(np.float32), "n h w c -> c", channels="RGB", range=(0, 1))
)
FLOATS = zm.standardize(zm.measure(RAW.astype(np.float32), "n h w c -> c", channels="RGB"))
WORDS = zm.standardize(zm.measure(RAW.astype(np.uint16) * 257, "n h w c -> c", channels="RGB"))


@pytest.mark.parametrize(
    ("norm", "model", "words", "repair"),
    [
        (UNIT, "raw numbers", "yours are of 0..1, the model's of 0..255", "(yours times 255)"),
        (UNIT_1, "raw numbers", "yours are of 0..1, the model's of 0..255", "data in 0..255"),
        (UNIT_1, "channels last", None, None),
        (UNIT_1, "rescaled first", "yours are of 0..1, the model's of 0..255", "times 255"),
        (FLOATS, "sub div in 0..1", "yours are of 0..255, the model's of 0..1", "divided by 255"),
        (WORDS, "raw numbers", "yours are of 0..65535, the model's of 0..255", "divided by 257"),
        (NORM, "raw numbers", None, None),
    ],
)
def test_the_same_numbers_in_other_units(norm, model, words, repair):
    found = check(norm, model=SAME[model])
    assert not found.ok
    if words is None:
        assert "twice" in found
        return
    assert words in found["units"].sentence
    assert repair in found["units"].repair


@pytest.mark.parametrize("norm", [UNIT, UNIT_1])
def test_ours_in_other_units_inside(norm):
    model = merge(net("z = Identity (x)"), NORM)
    found = check(norm, model=model)
    assert [f.name for f in found] == ["units"]
    assert "yours are of 0..1, the model's of RGB 0..255" in found["units"].sentence
    assert found["units"].repair == "Give it raw uint8 (RGB 0..255), not normalized."


def test_other_numbers_are_not_taken_for_other_units():
    other = zm.standardize(zm.measure((RAW // 2) / 255, "n h w c -> c", channels="RGB"))
    assert "numbers" in check(other, model=SAME["raw numbers"])
    assert "numbers" in check(other, model=merge(net("z = Identity (x)"), NORM))


@pytest.mark.parametrize(
    ("before", "constants"),
    [
        ("c = Sub (x, mean) z = Div (c, std)", vectors(MEAN + 0.1, STD)),
        ("d = Mul (x, two) z = Sub (d, one)", "float[1] two = {2}, float[1] one = {1}"),
    ],
)
def test_a_model_of_0_to_1_data_is_not_to_be_given_0_to_255(before, constants):
    found = check(NORM, model=net(before, constants))
    assert "by other numbers" in found["numbers"].sentence
    assert "give it raw data (RGB 0..255) divided by 255, not" in found["numbers"].repair
    raw = check(NORM, model=net("z = Sub (x, mean)", vectors(NORM.shift + 9)))
    assert "give it raw data (RGB 0..255), not" in raw["numbers"].repair


def test_advice_for_the_shell_is_complete():
    assert "zeromean export norm.json --to onnx --model net.onnx -o served.onnx" in str(
        check(NORM, model=net("z = Identity (x)"))
    )
    wants = check(NORM, model=SAME["raw numbers"], channels="BGR")
    assert "reorder=" not in str(wants)
    grouped = zm.measure(RAW, "n h w c -> c", by=list("aabb")).normalizers(zm.zero_mean)
    with pytest.raises(zm.PatternError, match=r"by group.* norm\.normalizer_for"):
        check(grouped, model=SAME["raw numbers"])


def test_whitening_inside():
    norm = zm.whiten(zm.measure(RAW, "n h w c -> c", covariance=True), "zca")
    found = check(norm, model=merge(net("z = Identity (x)"), norm))
    assert found.ok
    assert "inside" in found
    assert "numbers" in check(norm, model=SAME["raw numbers"])


# ---------------------------------------------------------------- tables, results, command


def test_tables():
    rows = np.random.default_rng(0).normal(5, 3, (50, 4)).astype(np.float32)
    norm = zm.standardize(zm.measure(rows))
    nodes = [
        helper.make_node("Sub", ["x", "mean"], ["c"]),
        helper.make_node("Div", ["c", "std"], ["d"]),
        helper.make_node("Gemm", ["d", "w"], ["y"]),
    ]
    tensors = [
        numpy_helper.from_array(norm.shift.astype(np.float32), "mean"),
        numpy_helper.from_array(norm.scale.astype(np.float32), "std"),
        numpy_helper.from_array(np.ones((4, 2), np.float32), "w"),
    ]
    values = [
        helper.make_tensor_value_info(n, TensorProto.FLOAT, ("n", d))
        for n, d in (("x", 4), ("y", 2))
    ]
    graph = helper.make_graph(nodes, "net", values[:1], values[1:], initializer=tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    assert "twice" in check(norm, model=model)
    assert "units of the raw data" in check(norm, model=model)["twice"].sentence


def test_findings_are_ordered_and_readable():
    found = Findings("net.onnx", (Finding("a", "note", "A."), Finding("b", "error", "B.", "Do C.")))
    assert repr(found) == "net.onnx: 1 problem\nerror (b): B.\n  Do C.\nnote (a): A."
    assert found["b"].repair == "Do C."
    with pytest.raises(KeyError):
        found["c"]
    with pytest.raises(zm.PatternError, match="severity is 'bad'"):
        Finding("a", "bad", "A.")


def test_something_to_check_is_needed():
    with pytest.raises(zm.PatternError, match="give model="):
        check(NORM)
    with pytest.raises(zm.PatternError, match="not a Profile; make one from a profile"):
        check(zm.measure(RAW, "n h w c -> c"), model=SAME["bytes in"])


@pytest.fixture
def files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    NORM.save("norm.json")
    zm.measure(RAW, "n h w c -> c").save("train.json")
    onnx.save(SAME["raw numbers"], "twice.onnx")
    onnx.save(net("z = Identity (x)"), "plain.onnx")
    (tmp_path / "bad.onnx").write_text("no model\n")
    return CliRunner()


def test_the_command(files):
    from zeromean.cli import main

    result = files.invoke(main, ["check", "norm.json", "--model", "twice.onnx"])
    assert result.exit_code == 1, result.output
    assert result.stdout.startswith("twice.onnx: 1 problem\nwarning (twice): the model normalizes")
    result = files.invoke(main, ["check", "norm.json", "--model", "plain.onnx"])
    assert result.exit_code == 0
    assert result.stdout.startswith("plain.onnx: nothing wrong\n")
    result = files.invoke(main, ["check", "norm.json", "--model", "plain.onnx", "-q"])
    assert (result.exit_code, result.output) == (0, "")
    result = files.invoke(
        main, ["check", "train.json", "--method", "standardize", "--model", "twice.onnx", "--json"]
    )
    assert result.exit_code == 1
    fields = json.loads(result.stdout)
    assert (fields["ok"], fields["findings"][0]["name"]) == (False, "twice")
    for name in ("bad.onnx", "missing.onnx"):
        result = files.invoke(main, ["check", "norm.json", "--model", name])
        assert result.exit_code == 2
        assert result.output.startswith(f"error: {name}: ")


# ---------------------------------------------------------------- any chain of operators


class Chain:
    """A random chain of operators that are affine in each value, and its constants."""

    def __init__(self, seed):
        self.random = np.random.default_rng(seed)
        self.nodes, self.constants, self.current = [], [], "x"
        self.shape = [2, 3, 4, 5]

    def constant(self, values):
        self.constants.append(
            numpy_helper.from_array(np.asarray(values), f"k{len(self.constants)}")
        )
        return self.constants[-1].name

    def add(self, kind, inputs, **attributes):
        name = f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [name], **attributes))
        self.current = name

    def operand(self):
        random = self.random
        shape = [n if random.random() < 0.5 else 1 for n in self.shape]
        values = random.uniform(0.5, 2, shape).astype(np.float32)
        return self.constant(values if random.random() < 0.7 else values.flat[0])

    def grow(self):
        kind, axis = self.random.integers(0, 9), int(self.random.integers(0, 4))
        if kind < 4:
            self.add(["Sub", "Add", "Mul", "Div"][kind], [self.current, self.operand()])
        elif kind == 4:
            self.add("Sub", [self.operand(), self.current])
        elif kind == 5:
            perm = [int(i) for i in self.random.permutation(4)]
            self.shape = [self.shape[i] for i in perm]
            self.add("Transpose", [self.current], perm=perm)
        elif kind == 6:
            indices = self.constant(self.random.permutation(self.shape[axis]))
            self.add("Gather", [self.current, indices], axis=axis)
        elif kind == 7:
            bounds = [self.constant(np.array([v])) for v in (-1, -100, axis, -1)]
            self.add("Slice", [self.current, *bounds])
        else:
            self.take_apart(axis)

    def take_apart(self, axis):
        count, name = self.shape[axis], f"s{len(self.nodes)}"
        parts = [f"{name}_{i}" for i in range(count)]
        ones = self.constant(np.ones(count, np.int64))
        self.nodes.append(helper.make_node("Split", [self.current, ones], parts, axis=axis))
        for part in parts:
            factor = self.constant(np.float32(self.random.uniform(0.5, 2)))
            self.nodes.append(helper.make_node("Mul", [part, factor], [f"{part}m"]))
        joined = [f"{parts[i]}m" for i in self.random.permutation(count)]
        self.add("Concat", joined, axis=axis)

    def model(self, last):
        self.add(last, [self.current])
        values = [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
            for name, shape in (("x", (2, 3, 4, 5)), (self.current, self.shape))
        ]
        graph = helper.make_graph(
            self.nodes, "chain", values[:1], values[1:], initializer=self.constants
        )
        made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        onnx.checker.check_model(made, full_check=True)
        self.nodes.pop()
        return made


@pytest.mark.parametrize("seed", range(60))
def test_any_chain_is_followed_to_its_end(seed):
    """Gain and bias give every value that the chain gives, whatever moved where."""
    chain = Chain(seed)
    for _ in range(seed % 7 + 1):
        chain.grow()
    inside = inspect(chain.model("Relu"))
    assert inside.first == "Relu"
    x = chain.random.normal(size=(2, 3, 4, 5)).astype(np.float32)
    chain.current = chain.nodes[-1].output[0]
    y = onnx.reference.ReferenceEvaluator(chain.model("Identity")).run(None, {"x": x})[0]
    ours = inside.gain * x + inside.bias
    assert np.allclose(np.sort(ours.ravel()), np.sort(y.ravel()), rtol=1e-4, atol=1e-4)


def test_a_model_that_is_given_another_order_holds_the_same_numbers():
    """Raw BGR in, the measured RGB inside: nothing is wrong, and the note says what to give."""
    norm = zm.standardize(zm.measure(RAW, "n h w c -> c", channels="RGB"))
    net = parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 17]>
        net (float[n, 3, h, w] image) => (float[n, 3, 1, 1] y) { y = GlobalAveragePool (image) }"""
    )
    served = zm.export(norm, "onnx", model=net, channels="BGR").value
    found = zm.check(norm, model=served)
    assert found.ok
    assert "BGR 0..255" in str(found)
    assert "of BGR, its first layer gets RGB" in str(found)
    other = zm.zero_mean(zm.measure(RAW, "n h w c -> c", channels="RGB"))
    assert not zm.check(other, model=served).ok
