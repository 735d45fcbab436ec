"""Folding into ONNX models: what ONNX Runtime gives for raw data is what it gave for normalized."""

from __future__ import annotations

import io
import json
import warnings

import numpy as np
import pytest
from click.testing import CliRunner

import small_network
import zeromean as zm
from zeromean.cli import main
from zeromean.normalizer import Normalizer
from zeromean.pattern import Pattern
from zeromean.provenance import Units

onnx = pytest.importorskip("onnx", reason="folds ONNX models")
runtime = pytest.importorskip("onnxruntime", reason="runs what was folded")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from zeromean.graphs import metadata  # noqa: E402
from zeromean.graphs.folding import fold_model  # noqa: E402

TYPES = {"float16": TensorProto.FLOAT16, "float32": TensorProto.FLOAT}
TYPES |= {"float64": TensorProto.DOUBLE, "uint8": TensorProto.UINT8}


def normalizer(text="n h w c -> c", kept=(3,), *, seed=0, matrix=None, dtype="uint8", **given):
    """An affine map of uint8 data; with an offset, as min_max has one."""
    rng = np.random.default_rng(seed)
    numbers = {
        "shift": rng.uniform(60, 180, kept),
        "scale": np.ones(kept) if matrix is not None else rng.uniform(30, 90, kept),
        "offset": rng.normal(size=kept if matrix is None else len(matrix)),
        "units": Units.of(dtype),
    }
    pattern = Pattern.parse(text)
    return Normalizer(
        pattern=pattern,
        kept_shape=kept,
        dtype=dtype,
        recipe="made up",
        matrix=matrix,
        **(numbers | given),
    )


def weights(*shape, seed=4, dtype="float32"):
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


def model_of(nodes, constants, shape, *, dtype="float32", opset=17, out="y", inputs=()):
    """A graph from x (any number of samples) to y."""
    element = TYPES[dtype]
    values = [helper.make_tensor_value_info("x", element, ["n", *shape])]
    values += [helper.make_tensor_value_info(name, element, None) for name in inputs]
    graph = helper.make_graph(
        nodes,
        "test",
        values,
        [helper.make_tensor_value_info(out, element, None)],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    opsets = [helper.make_opsetid("", opset)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    return onnx.shape_inference.infer_shapes(model)


def conv(shape=(3, 9, 8), *, weight=None, front=(), source="x", bias=True, opset=17, **attributes):
    """A convolution behind some nodes."""
    weight = weights(4, 3, 3, 3) if weight is None else weight
    given = [source, "w", "b"] if bias else [source, "w"]
    nodes = [*front, helper.make_node("Conv", given, ["y"], name="first", **attributes)]
    constants = {"w": weight} | ({"b": weights(len(weight), seed=5)} if bias else {})
    return model_of(nodes, constants, shape, opset=opset)


def run(model, x):
    session = runtime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    held = session.get_inputs()[0]
    dtype = {"tensor(uint8)": "uint8", "tensor(float)": "float32", "tensor(double)": "float64"}
    return session.run(None, {held.name: x.astype(dtype.get(held.type, "float16"))})[0]


def raw(*shape, seed=1):
    return np.random.default_rng(seed).integers(0, 256, shape).astype(np.float64)


def normalized(norm, x, layout):
    """Float64, in the model's axes."""
    if layout == "chw":
        return np.moveaxis(norm(np.moveaxis(x, -3, -1), dtype="float64"), -1, -3)
    return norm(x, dtype="float64")


def agrees(model, norm, x, layout="chw", bound=3e-6, **options):
    """Fold, run both, compare; the folded model."""
    folded, record = fold_model(model, norm, **options)
    onnx.checker.check_model(folded, full_check=True)
    expected = run(model, normalized(norm, x, layout))
    size = float(np.abs(expected).max())
    assert np.abs(run(folded, x) - expected).max() < bound * size
    assert np.abs(run(model, x) - expected).max() > 1e-3 * size, "normalizing does nothing here"
    assert record.verified == "ONNX Runtime"
    assert record.difference <= record.bound
    return folded


def kinds(model):
    return [node.op_type for node in model.graph.node]


# ---------------------------------------------------------------- convolutions


@pytest.mark.parametrize("opset", [11, 13, 17, 21])
@pytest.mark.parametrize("border", ["pad", "map"])
def test_zero_padding(opset, border):
    """More at one end than at the other; bias or none; strides and dilations."""
    for bias in (True, False):
        model = conv(pads=[1, 2, 0, 3], strides=[2, 1], dilations=[1, 2], bias=bias, opset=opset)
        folded = agrees(model, normalizer(), raw(2, 3, 9, 8), border=border)
        assert ("Pad" in kinds(folded)) == (border == "pad")


def test_zero_padding_of_any_size_needs_no_size():
    model = conv((3, "h", "w"), pads=[1, 1, 1, 1])
    folded = agrees(model, normalizer(), raw(2, 3, 9, 8))
    expected = run(model, normalized(normalizer(), raw(1, 3, 20, 31), "chw"))
    assert np.abs(run(folded, raw(1, 3, 20, 31)) - expected).max() < 3e-6 * np.abs(expected).max()
    with pytest.raises(zm.PatternError, match="give shape="):
        fold_model(model, normalizer(), border="map")
    agrees(model, normalizer(), raw(2, 3, 9, 8), border="map", shape=(3, 9, 8))


@pytest.mark.parametrize("mode", ["SAME_UPPER", "SAME_LOWER", "VALID"])
@pytest.mark.parametrize("strides", [[1, 1], [2, 3]])
@pytest.mark.parametrize("border", ["pad", "map"])
def test_automatic_padding(mode, strides, border):
    for size in ((9, 8), (8, 10)):
        for kernel in ((3, 3), (2, 4)):
            model = conv((3, *size), weight=weights(4, 3, *kernel), auto_pad=mode, strides=strides)
            agrees(model, normalizer(), raw(2, 3, *size), border=border)


def test_automatic_padding_with_strides_needs_the_size():
    model = conv((3, "h", "w"), auto_pad="SAME_UPPER", strides=[2, 2])
    with pytest.raises(zm.FormatError, match="its padding depends on the size"):
        fold_model(model, normalizer())
    agrees(conv((3, "h", "w"), auto_pad="SAME_LOWER"), normalizer(), raw(2, 3, 9, 8))


@pytest.mark.parametrize("dims", [1, 3])
def test_other_dimensions_and_groups(dims):
    norm = normalizer("n c h w d"[: 3 + 2 * dims] + " -> c", (4,))
    size = (7, 6, 5)[:dims]
    model = conv((4, *size), weight=weights(6, 2, *(3,) * dims), group=2, pads=[1] * 2 * dims)
    agrees(model, norm, raw(2, 4, *size), layout=None)


def test_one_number_for_everything_pads_once():
    folded = agrees(conv(pads=[1] * 4), normalizer("n h w c ->", ()), raw(2, 3, 9, 8), layout=None)
    assert kinds(folded) == ["Pad", "Conv"]


def test_a_mean_image_is_a_map():
    norm = normalizer("n h w c -> h w c", (9, 8, 3), scale=np.ones((9, 8, 3)))
    folded = agrees(conv(pads=[1] * 4), norm, raw(2, 3, 9, 8), border="map")
    assert kinds(folded) == ["Conv", "Add"]
    with pytest.raises(zm.PatternError, match="border='map'"):
        fold_model(conv(pads=[1] * 4), norm)


@pytest.mark.parametrize("border", ["pad", "map"])
def test_color_whitening(border):
    norm = normalizer(matrix=weights(3, 3) / 50)
    agrees(conv(pads=[1] * 4), norm, raw(2, 3, 9, 8), border=border)
    with pytest.raises(zm.PatternError, match="groups of them apart"):
        fold_model(conv(weight=weights(6, 1, 3, 3), group=3), norm)


def test_whitening_that_leaves_fewer_channels():
    norm = normalizer(matrix=weights(2, 3) / 50, offset=np.zeros(2))
    model = conv((2, 9, 8), weight=weights(4, 2, 3, 3), pads=[1] * 4)
    folded, record = fold_model(model, norm)
    assert record.verified == "ONNX Runtime"
    assert record.fits
    assert [d.dim_value for d in folded.graph.input[0].type.tensor_type.shape.dim[1:]] == [3, 9, 8]
    x = raw(2, 3, 9, 8)
    expected = run(model, np.moveaxis(norm(np.moveaxis(x, 1, -1), dtype="float64"), -1, 1))
    assert np.abs(run(folded, x) - expected).max() < 3e-6 * np.abs(expected).max()


# ---------------------------------------------------------------- linear layers


@pytest.mark.parametrize("turned", [0, 1])
@pytest.mark.parametrize("shape", [None, (), (1,), (5,), (1, 5), (1, 1)])
@pytest.mark.parametrize("beta", [1.0, 0.5, 0.0])
def test_gemm(turned, shape, beta):
    """Y = alpha X B + beta C, whatever the shape of C."""
    b = weights(5, 6) if turned else weights(6, 5)
    given = ["x", "b"] if shape is None else ["x", "b", "c"]
    node = helper.make_node("Gemm", given, ["y"], transB=turned, alpha=0.7, beta=beta)
    constants = {"b": b} | ({} if shape is None else {"c": weights(*shape, seed=6)})
    agrees(model_of([node], constants, (6,)), normalizer("n d -> d", (6,)), raw(4, 6), None)


@pytest.mark.parametrize("bias", [None, (5,), (1, 5), (), (7, 5)])
def test_matmul(bias):
    """With an Add behind, or without one; a bias that is no row is left alone."""
    nodes = [helper.make_node("MatMul", ["x", "w"], ["p"])]
    constants = {"w": weights(6, 5)}
    if bias is None:
        nodes[0].output[0] = "y"
    else:
        nodes.append(helper.make_node("Add", ["b", "p"], ["y"]))
        constants["b"] = np.asarray(weights(*bias, seed=6))
    model = model_of(nodes, constants, (7, 6))
    folded = agrees(model, normalizer("n t f -> f", (6,)), raw(4, 7, 6), None)
    assert kinds(folded) == ["MatMul", "Add", "Add"] if bias == (7, 5) else ["MatMul", "Add"]


FLATTENINGS = {
    "flatten": ([helper.make_node("Flatten", ["x"], ["f"])], {}, "chw"),
    "reshape": (
        [helper.make_node("Reshape", ["x", "to"], ["f"])],
        {"to": np.array([-1, 60])},
        "chw",
    ),
    "last": (
        [
            helper.make_node("Transpose", ["x"], ["t"], perm=[0, 2, 3, 1]),
            helper.make_node("Flatten", ["t"], ["f"]),
        ],
        {},
        "chw",
    ),
    "first": (
        [
            helper.make_node("Transpose", ["x"], ["t"], perm=[0, 3, 1, 2]),
            helper.make_node("Flatten", ["t"], ["f"]),
        ],
        {},
        "hwc",
    ),
    "by shape": (
        [
            helper.make_node("Shape", ["x"], ["s"]),
            helper.make_node("Slice", ["s", "zero", "one"], ["n"]),
            helper.make_node("Concat", ["n", "rest"], ["to"], axis=0),
            helper.make_node("Identity", ["x"], ["i"]),
            helper.make_node("Reshape", ["i", "to"], ["f"]),
        ],
        {"zero": np.array([0]), "one": np.array([1]), "rest": np.array([-1])},
        "chw",
    ),
}


@pytest.mark.parametrize("way", FLATTENINGS)
@pytest.mark.parametrize("what", ["mean image", "full whitening", "channels", "color whitening"])
def test_flattening(way, what):
    """In whatever order pictures are flattened; the shape of the input tells the layout."""
    nodes, constants, layout = FLATTENINGS[way]
    shape = (3, 4, 5) if layout == "chw" else (4, 5, 3)
    norm = {
        "mean image": normalizer("n h w c -> h w c", (4, 5, 3)),
        "full whitening": normalizer("n h w c -> h w c", (4, 5, 3), matrix=weights(60, 60) / 99.0),
        "channels": normalizer(),
        "color whitening": normalizer(matrix=weights(3, 3) / 50),
    }[what]
    layer = helper.make_node("Gemm", ["f", "w", "b"], ["y"], transB=1)
    held = {"w": weights(7, 60), "b": weights(7)} | constants
    model = model_of([*nodes, layer], held, shape)
    agrees(model, norm, raw(2, *shape), layout if layout == "chw" else None)


def test_an_open_layout_is_asked_for():
    layer = helper.make_node("Gemm", ["f", "w"], ["y"], transB=1)
    nodes = [helper.make_node("Flatten", ["x"], ["f"]), layer]
    model = model_of(nodes, {"w": weights(7, 27)}, (3, 3, 3))
    with pytest.raises(zm.PatternError, match="say layout='hwc' or layout='chw'"):
        fold_model(model, normalizer())
    _, record = fold_model(model, normalizer(), layout="chw")
    assert record.layout == "chw"
    assert record.fits


# ---------------------------------------------------------------- what may lie in front


def node(kind, given, made, **attributes):
    return helper.make_node(kind, given, made, name=kind.lower(), **attributes)


FRONTS = {
    "channels last": ([node("Transpose", ["x"], ["t"], perm=[0, 3, 1, 2])], {}, (9, 8, 3), None),
    "zeros": (
        [node("Pad", ["x", "p"], ["t"])],
        {"p": np.array([0, 0, 1, 2, 0, 0, 3, 0])},
        (3, 9, 8),
        "chw",
    ),
    "a constant": (
        [node("Pad", ["x", "p", "v"], ["t"])],
        {"p": np.array([0, 0, 1, 2, 0, 0, 3, 0]), "v": np.array(-0.5, np.float32)},
        (3, 9, 8),
        "chw",
    ),
    "zeros, channels last": (
        [
            node("Pad", ["x", "p"], ["q"]),
            node("Transpose", ["q"], ["t"], perm=[0, 3, 1, 2]),
        ],
        {"p": np.array([0, 1, 1, 0, 0, 2, 0, 0])},
        (9, 8, 3),
        None,
    ),
    "reflected": (
        [node("Pad", ["x", "p"], ["t"], mode="reflect")],
        {"p": np.array([0, 0, 1, 2, 0, 0, 3, 0])},
        (3, 9, 8),
        "chw",
    ),
    "repeated": (
        [node("Pad", ["x", "p"], ["t"], mode="edge")],
        {"p": np.array([0, 0, 1, 2, 0, 0, 3, 0])},
        (3, 9, 8),
        "chw",
    ),
    "average": ([node("AveragePool", ["x"], ["t"], kernel_shape=[2, 2])], {}, (3, 9, 8), "chw"),
    "maximum": ([node("MaxPool", ["x"], ["t"], kernel_shape=[2, 2])], {}, (3, 9, 8), "chw"),
    "bilinear": (
        [node("Resize", ["x", "", "s"], ["t"], mode="linear")],
        {"s": np.array([1, 1, 2, 2], np.float32)},
        (3, 9, 8),
        "chw",
    ),
    "dropout": ([node("Dropout", ["x"], ["t"])], {}, (3, 9, 8), "chw"),
    "reversed channels": (
        [node("Gather", ["x", "order"], ["t"], axis=1)],
        {"order": np.array([2, 1, 0])},
        (3, 9, 8),
        "chw",
    ),
    "constants as nodes": (
        [
            helper.make_node(
                "Constant", [], ["w"], value=numpy_helper.from_array(weights(4, 3, 3, 3))
            ),
            node("Identity", ["x"], ["t"]),
        ],
        {},
        (3, 9, 8),
        "chw",
    ),
}


@pytest.mark.parametrize("front", FRONTS)
def test_what_lets_an_affine_map_pass(front):
    nodes, constants, shape, layout = FRONTS[front]
    layer = helper.make_node("Conv", ["t", "w", "b"], ["y"], name="first", pads=[1] * 4)
    held = {"w": weights(4, 3, 3, 3), "b": weights(4)} | constants
    if front == "constants as nodes":
        del held["w"]
    agrees(model_of([*nodes, layer], held, shape), normalizer(), raw(2, *shape), layout)


# ---------------------------------------------------------------- dtypes, input, record


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_dtypes_stay(dtype):
    layer = helper.make_node("Conv", ["x", "w", "b"], ["y"], pads=[1] * 4)
    held = {"w": weights(4, 3, 3, 3, dtype=dtype) / 10, "b": weights(4, dtype=dtype)}
    held["w"] = held["w"].astype(dtype)
    model = model_of([layer], held, (3, 9, 8), dtype=dtype)
    folded, record = fold_model(model, normalizer())
    assert {t.data_type for t in folded.graph.initializer} <= {TYPES[dtype], TensorProto.INT64}
    assert record.difference <= record.bound
    assert record.difference < (2e-2 if dtype == "float16" else 1e-5) * record.largest


def test_uint8_stays_uint8_up_to_a_cast():
    model = conv(pads=[1] * 4)
    folded, _ = fold_model(model, normalizer(), input="uint8")
    assert kinds(folded)[0] == "Cast"
    assert folded.graph.input[0].type.tensor_type.elem_type == TensorProto.UINT8
    x = raw(2, 3, 9, 8)
    expected = run(model, normalized(normalizer(), x, "chw"))
    assert np.abs(run(folded, x) - expected).max() < 3e-6 * np.abs(expected).max()
    unit = normalizer(dtype="float32", units=Units.of("float32", range_=(0, 1)))
    with pytest.raises(zm.UnitError, match=r"uint8 data is 0\.\.255"):
        fold_model(model, unit, input="uint8")


def test_a_fixed_batch_is_verified_too():
    model = conv(pads=[1] * 4)
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 2
    assert fold_model(model, normalizer())[1].verified == "ONNX Runtime"


def test_the_model_says_what_is_in_it_and_is_not_folded_twice():
    norm = normalizer()
    model = conv(pads=[1] * 4)
    before = model.SerializeToString()
    folded, record = fold_model(model, norm)
    assert model.SerializeToString() == before
    held, placement = metadata.described(folded)
    assert held == norm
    assert placement["how"] == "folded"
    assert record.pad_values == pytest.approx(norm.shift - norm.offset * norm.scale)
    with pytest.raises(zm.FormatError, match="holds a normalizer already"):
        fold_model(folded, norm)


def test_unused_weights_do_not_stay():
    folded, _ = fold_model(conv(pads=[1] * 4), normalizer())
    assert not {"w", "b"} & {t.name for t in folded.graph.initializer}


def test_without_onnx_runtime_it_says_so(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    _, record = fold_model(conv(), normalizer())
    assert record.sentence() == "not verified: ONNX Runtime is not installed"


# ---------------------------------------------------------------- refusals


def after(*nodes, constants=None, shape=(3, 9, 8), **options):
    """A convolution behind nodes that end in t."""
    layer = helper.make_node("Conv", ["t", "w"], ["y"], name="first")
    held = {"w": weights(4, 3, 3, 3)} | (constants or {})
    return model_of([*nodes, layer], held, shape, **options)


def shared():
    layer = helper.make_node("Conv", ["x", "w"], ["c"], name="first")
    nodes = [layer, node("ReduceSum", ["w"], ["s"], keepdims=0), node("Add", ["c", "s"], ["y"])]
    return model_of(nodes, {"w": weights(4, 3, 3, 3)}, (3, 9, 8))


def skipping():
    layer = helper.make_node("Conv", ["x", "w"], ["c"], name="first", pads=[1] * 4)
    return model_of([layer, node("Add", ["x", "c"], ["y"])], {"w": weights(3, 3, 3, 3)}, (3, 9, 8))


def computed():
    return model_of([node("MatMul", ["x", "x"], ["y"])], {}, (6, 6))


def quantized():
    nodes = [
        node("DequantizeLinear", ["q", "s"], ["w"]),
        helper.make_node("Conv", ["x", "w"], ["y"], name="first"),
    ]
    held = {"q": np.ones((4, 3, 3, 3), np.int8), "s": np.array(0.1, np.float32)}
    return model_of(nodes, held, (3, 9, 8), dtype="float32")


def old():
    return conv(opset=10)


def integers():
    model = after(node("Cast", ["x"], ["t"], to=TensorProto.FLOAT))
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.UINT8
    return model


CONSTANTS = {name: weights(3) for name in "smvz"} | {"k": np.array(255.0, np.float32)}
REFUSED = {
    "first operation on the input is Relu": lambda: after(node("Relu", ["x"], ["t"])),
    "begins with Div 'div', which may be a normalization": lambda: after(
        node("Div", ["x", "k"], ["t"]), constants=CONSTANTS
    ),
    "BatchNormalization .* of its own that was trained": lambda: after(
        node("BatchNormalization", ["x", "s", "m", "z", "v"], ["t"]), constants=CONSTANTS
    ),
    "averages in zeros of its own": lambda: after(
        node("AveragePool", ["x"], ["t"], kernel_shape=[3, 3], pads=[1] * 4, count_include_pad=1)
    ),
    "weights 'w' of Conv 'first' are shared": shared,
    r"would reach 2 consumers \(Conv 'first', Add 'add'\)": skipping,
    "would reach 2 consumers": computed,
    "quantized weights; fold before": quantized,
    "the model is quantized": lambda: after(node("QuantizeLinear", ["x", "k"], ["t"])),
    "opset 10, and folding needs 11": old,
    "is uint8: it takes raw data": integers,
    r"takes inputs of shape \(1, 9, 8\), and the normalizer keeps \(3,\)": lambda: conv(
        (1, 9, 8), weight=weights(4, 1, 3, 3)
    ),
    "has the input on its right": lambda: model_of(
        [node("MatMul", ["w", "x"], ["y"])], {"w": weights(2, 9)}, (9, 8)
    ),
    "transposes its input": lambda: model_of(
        [node("Gemm", ["x", "w"], ["y"], transA=1)], {"w": weights(5, 2)}, (3,)
    ),
    "without|meets no Conv": lambda: model_of([node("Identity", ["x"], ["y"])], {}, (3, 9, 8)),
}


@pytest.mark.parametrize("said", REFUSED)
def test_refusals_say_why(said):
    with pytest.raises(zm.ZeromeanError, match=said):
        fold_model(REFUSED[said](), normalizer())


def test_weights_that_are_given_are_refused():
    model = model_of([node("Conv", ["x", "w"], ["y"])], {}, (3, 9, 8), inputs=["w"])
    with pytest.raises(zm.FormatError, match="are no initializer"):
        fold_model(model, normalizer(), name="x")


def test_four_channels_for_three_are_refused():
    with pytest.raises(zm.PatternError, match=r"3, 9, 8.*\(4,\)"):
        fold_model(conv(), normalizer(kept=(4,)))


def test_one_channel_for_three_is_refused():
    """Also where height and width are open, which one number would fit."""
    for shape in ((3, 9, 8), (3, "h", "w")):
        with pytest.raises(zm.PatternError, match=r"takes inputs of shape \(3, .*keeps \(1,\)"):
            fold_model(conv(shape, pads=[1] * 4), normalizer(kept=(1,)))


def test_other_inputs_are_asked_about():
    layer = helper.make_node("Conv", ["x", "w"], ["c"], name="first")
    nodes = [layer, node("Add", ["c", "bias"], ["y"])]
    model = model_of(nodes, {"w": weights(4, 3, 3, 3)}, (3, 9, 8), inputs=["bias"])
    with pytest.raises(zm.PatternError, match=r"'x', 'bias'.*say so with name="):
        fold_model(model, normalizer())
    _, record = fold_model(model, normalizer(), name="x")
    assert record.verified.startswith("not verified")


# ---------------------------------------------------------------- files and the command


@pytest.fixture(scope="module")
def trained():
    pytest.importorskip("torch", reason="trains the network")
    return small_network.trained()


def exported(module, x):
    """By PyTorch's own exporter; any batch."""
    torch = pytest.importorskip("torch", reason="exports the model")
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter that needs no further package is the old one
        torch.onnx.export(
            module.eval(),
            (x,),
            buffer,
            dynamo=False,
            input_names=["pixels"],
            output_names=["logits"],
            dynamic_axes={"pixels": {0: "n"}, "logits": {0: "n"}},
            opset_version=17,
        )
    return onnx.load_from_string(buffer.getvalue())


@pytest.mark.parametrize("border", ["pad", "map"])
@pytest.mark.parametrize("kind", ["uint8", "float"])
def test_a_trained_network_in_onnx_runtime(trained, border, kind):
    """Logits within 1e-4 of those of PyTorch behind the normalizer, borders included."""
    module, norm, x, behind = trained
    model = exported(module, behind)
    folded, record = fold_model(model, norm, border=border, input=kind)
    logits = module(behind).detach().numpy()
    assert np.abs(run(folded, x.numpy()) - logits).max() < 1e-4
    assert record.difference < 1e-4


def test_a_folded_module_exports(trained):
    """The other way round: fold in PyTorch, export, run."""
    from zeromean.torch import fold

    module, norm, x, behind = trained
    model = exported(fold(module, norm, input="uint8"), x)
    logits = module(behind).detach().numpy()
    assert np.abs(run(model, x.numpy()) - logits).max() < 1e-4


def test_openvino_agrees():
    openvino = pytest.importorskip("openvino", reason="another runtime")
    layer = helper.make_node("Conv", ["x", "w", "b"], ["y"], pads=[2, 2, 2, 2])
    held = {"w": weights(4, 3, 5, 5, dtype="float32"), "b": weights(4, dtype="float32")}
    folded, _ = fold_model(
        model_of([layer], held, (3, 9, 8), dtype="float32"), normalizer(), input="uint8"
    )
    x = raw(2, 3, 9, 8).astype(np.uint8)
    core = openvino.Core()
    options = {"INFERENCE_PRECISION_HINT": "f32"}
    compiled = core.compile_model(core.read_model(folded.SerializeToString(), b""), "CPU", options)
    expected = run(folded, x)
    assert np.abs(compiled(x)[0] - expected).max() < 1e-5 * np.abs(expected).max()


def test_files(tmp_path):
    norm, model = normalizer(), conv(pads=[1] * 4)
    apart = onnx.ModelProto()
    apart.CopyFrom(model)
    onnx.save(
        apart,
        tmp_path / "model.onnx",
        save_as_external_data=True,
        location="weights.bin",
        size_threshold=0,
    )
    zm.fold(tmp_path / "model.onnx", norm, path=tmp_path / "folded.onnx")
    x = raw(2, 3, 9, 8)
    expected = run(model, normalized(norm, x, "chw"))
    folded = onnx.load(tmp_path / "folded.onnx")
    assert np.abs(run(folded, x) - expected).max() < 3e-6 * np.abs(expected).max()
    with pytest.raises(zm.PatternError, match="layer is for modules"):
        zm.fold(tmp_path / "model.onnx", norm, layer="first")
    with pytest.raises(zm.SourceError, match="no such model file"):
        zm.fold(tmp_path / "none.onnx", norm)


def single():
    layer = helper.make_node("Conv", ["x", "w", "b"], ["y"], name="first", pads=[1] * 4)
    held = {"w": weights(4, 3, 3, 3, dtype="float32"), "b": weights(4, dtype="float32")}
    return model_of([layer], held, (3, 9, 8), dtype="float32")


def command(*words):
    return CliRunner().invoke(main, ["fold", *map(str, words)])


def test_the_command(tmp_path):
    """A profile and a method; three lines of what it is; uint8 in."""
    pictures = np.random.default_rng(0).integers(0, 200, (20, 9, 8, 3)).astype(np.uint8)
    zm.measure(pictures, "n h w c -> c").save(tmp_path / "train.json")
    onnx.save(single(), tmp_path / "model.onnx")
    out = tmp_path / "folded.onnx"
    result = command(
        tmp_path / "model.onnx",
        tmp_path / "train.json",
        *("--method", "standardize", "--uint8", "-o", out),
    )
    assert result.exit_code == 0, result.output
    first, expects, second = result.stdout.splitlines()
    assert expects == (
        "expects uint8 0..255, channels in the order that was measured, axes (n, c, h, w), "
        "as input 'x'"
    )
    assert first.startswith("standardize (0..255) is in Conv 'first'; the border padded with ")
    assert "ONNX Runtime: outputs differ by at most" in second
    norm = zm.standardize(zm.measure(pictures, "n h w c -> c"))
    expected = run(single(), norm(pictures, layout="chw"))
    assert np.abs(run(onnx.load(out), np.moveaxis(pictures, -1, 1)) - expected).max() < 1e-4
    words = [tmp_path / "model.onnx", tmp_path / "train.json", "--method", "zero-mean"]
    quiet = command(*words, "-q", "-o", out)
    assert (quiet.exit_code, quiet.output) == (0, "")
    unverified = command(*words, "--no-verify", "-o", out)
    assert "not verified" in unverified.stdout
    asked = command(*words[:2], "-o", out)
    assert "train.json is a profile: say what the model was trained with" in asked.output
    over = command(*words, "-o", tmp_path / "model.onnx")
    assert over.exit_code == 2
    assert "model.onnx is what is read" in over.output


def test_the_command_refuses(tmp_path):
    model, numbers, out = (tmp_path / n for n in ("model.onnx", "norm.json", "folded.onnx"))
    onnx.save(single(), model)
    normalizer(kept=(4,)).save(numbers)
    wrong = command(model, numbers, "-o", out)
    assert wrong.exit_code == 2
    assert "error: the model takes inputs of shape (3, 9, 8)" in wrong.output
    far = normalizer(shift=np.full(3, 2e7), scale=np.ones(3), dtype="float32", units=Units())
    far.save(numbers)
    differs = command(model, numbers, "-o", out)
    assert differs.exit_code == 1
    assert "nothing was written: these numbers do not fit" in differs.stderr
    assert not out.exists()
    for words, said in (
        (["-o", tmp_path / "folded.pb"], "must end in .onnx"),
        (["-o", out, "--shape", "3,x"], "give the lengths of the axes"),
        (["-o", out, "--method", "standardize"], "is a normalizer already"),
    ):
        result = command(model, numbers, *words)
        assert result.exit_code == 2
        assert said in result.output


def test_the_command_asks_for_units(tmp_path):
    """uint8 is 0..255, and floats of unknown range may be anything."""
    pictures = np.random.default_rng(0).random((20, 9, 8, 3), dtype=np.float32)
    zm.measure(pictures, "n h w c -> c").save(tmp_path / "floats.json")
    onnx.save(single(), tmp_path / "model.onnx")
    words = [tmp_path / "model.onnx", tmp_path / "floats.json", "--method", "zero-mean"]
    words += ["-o", tmp_path / "folded.onnx"]
    result = command(*words, "--uint8")
    assert result.exit_code == 2
    assert "the range of the float32 data that the normalizer was measured on is not" in (
        result.output
    )
    assert "--range 0 255" in result.output
    result = command(*words)
    assert result.exit_code == 0, result.output
    assert "expects float32 in the units of the measured data" in result.stdout


def test_floats_of_0_to_255_fold_into_a_model_of_bytes():
    """Probes are whole numbers where the model takes integers, whatever was measured."""
    norm = normalizer(dtype="float32", units=Units.of("float32", "RGB", range_=(0, 255)))
    folded, record = fold_model(single(), norm, input="uint8")
    assert record.fits, record.sentence()
    x = raw(2, 3, 9, 8)
    expected = run(single(), normalized(norm, x, "chw"))
    assert np.abs(run(folded, x.astype(np.uint8)) - expected).max() < 1e-4


@pytest.mark.parametrize("text", ["n h w c -> c", "n c h w -> c", "... c -> c", "n h w c ->"])
def test_a_folded_model_says_what_it_expects(text):
    kept = () if text.endswith("->") else (3,)
    norm = normalizer(text, kept, units=Units.of("uint8", "RGB"))
    for kind, dtype in (("uint8", "uint8"), ("float", "float32")):
        layout = "chw" if text.startswith("...") else None
        model, record = fold_model(single(), norm, input=kind, layout=layout)
        names = {"...": "axis0, c, axis1, axis2"}.get(text[:3], "n, c, h, w")
        names = "n, h, w, c" if text.endswith("->") else names
        said = f"{dtype} 0..255, RGB, axes ({names})"
        assert record.expects == f"{said}, as input 'x'"
        assert model.graph.input[0].doc_string == f"raw {said}; normalized by the first layer"


def test_refusals_name_both_spellings():
    norm = normalizer()
    folded, _ = fold_model(single(), norm)
    opened = conv((3, None, None), pads=[1, 1, 1, 1])
    for model, options, said in (
        (folded, {}, r"zeromean check norm.json --model model.onnx"),
        (opened, {"border": "map"}, r"\(--shape 3,224,224\).*\(--border pad\)"),
        (single(), {"input": "uint8"}, r"without input='uint8' or --uint8"),
    ):
        given = normalizer(dtype="float32", units=Units()) if "input" in options else norm
        with pytest.raises(zm.ZeromeanError, match=said):
            fold_model(model, given, **options)


def test_what_rounding_explains_is_little():
    """The figure is measured, and within reach of the difference: a check that can fail."""
    _, record = fold_model(single(), normalizer())
    assert record.difference < record.bound < 150 * 2**-24 * record.largest


def test_the_record_is_readable():
    _, record = fold_model(single(), normalizer())
    assert json.dumps(record.pad_values)
    assert "first" in record.headline()
