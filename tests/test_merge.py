"""A merged model gives for raw data what the model gives for normalized data."""

from __future__ import annotations

import numpy as np
import pytest

import zeromean as zm

onnx = pytest.importorskip("onnx", reason="the package onnx is not installed")
ort = pytest.importorskip("onnxruntime", reason="the package onnxruntime is not installed")

from onnx import TensorProto, helper, numpy_helper, parser  # noqa: E402

from zeromean.graphs import metadata  # noqa: E402
from zeromean.graphs.merging import merge  # noqa: E402
from zeromean.graphs.model_files import read_model, write_model  # noqa: E402

RANDOM = np.random.default_rng(11)
RAW = RANDOM.integers(0, 256, (2, 6, 7, 3), dtype=np.uint8)


def norm_of(x=RAW, pattern="n h w c -> c", recipe=zm.standardize, **options):
    return recipe(zm.measure(x, pattern, **options))


def run(model, **feeds):
    onnx.checker.check_model(model, full_check=True)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, feeds)


def weights(*shape, name, dtype=np.float32):
    values = np.random.default_rng(len(name)).normal(size=shape).astype(dtype)
    return numpy_helper.from_array(values, name)


def model_of(nodes, inputs, outputs, initializers=(), opset=17, ir=8, **fields):
    graph = helper.make_graph(nodes, "net", inputs, outputs, initializer=list(initializers))
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir)
    for key, value in fields.items():
        setattr(made, key, value)
    onnx.checker.check_model(made, full_check=True)
    return made


def info(name, dims, kind=TensorProto.FLOAT):
    return helper.make_tensor_value_info(name, kind, dims)


def conv_net(dims=("batch", 3, "height", "width"), opset=17, ir=8, kind=np.float32, **fields):
    """A zero-padded convolution, ReLU, mean over the picture."""
    element = helper.np_dtype_to_tensor_dtype(np.dtype(kind))
    kernel, bias = weights(4, 3, 3, 3, name="kernel", dtype=kind), weights(4, name="b", dtype=kind)
    nodes = [
        helper.make_node("Conv", ["image", "kernel", "b"], ["c"], pads=[1] * 4, name="first"),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("GlobalAveragePool", ["r"], ["y"]),
    ]
    inputs = [info("image", dims, element)]
    if ir < 4:
        inputs += [info("kernel", (4, 3, 3, 3), element), info("b", (4,), element)]
    outputs = [info("y", (dims[0], 4, 1, 1), element)]
    return model_of(nodes, inputs, outputs, [kernel, bias], opset, ir, **fields)


def channels_last_net(dims=("batch", "height", "width", 3)):
    """What Keras exports: NHWC in, a Transpose before the first convolution."""
    nodes = [
        helper.make_node("Transpose", ["pixels"], ["t"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["t", "kernel"], ["y"]),
    ]
    shape = (dims[0], 4, None, None)
    kernel = weights(4, 3, 3, 3, name="kernel")
    return model_of(nodes, [info("pixels", dims)], [info("y", shape)], [kernel])


def dense_net(features=5):
    nodes = [helper.make_node("Gemm", ["x", "w", "b"], ["y"], transB=1)]
    tensors = [weights(2, features, name="w"), weights(2, name="b")]
    return model_of(nodes, [info("x", ("n", features))], [info("y", ("n", 2))], tensors)


def first(x):
    return np.ascontiguousarray(x.transpose(0, 3, 1, 2))


def close(y, truth, tolerance=1e-5):
    assert y.shape == truth.shape
    assert np.abs(y.astype(np.float64) - truth).max() <= tolerance * max(1, np.abs(truth).max())


# ---------------------------------------------------------------- pictures


@pytest.mark.parametrize("opset", [7, 11, 13, 17, 21, 23])
def test_channels_last_bytes_into_a_convolutional_net(opset):
    norm, net = norm_of(), conv_net(opset=opset, ir=8 if opset < 20 else 10)
    served = merge(net, norm)
    assert served.opset_import[0].version == opset
    assert served.ir_version == net.ir_version
    value = served.graph.input[0]
    assert (value.name, value.type.tensor_type.elem_type) == ("image", TensorProto.UINT8)
    assert [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim] == [
        *("batch", "height", "width", 3)
    ]
    close(run(served, image=RAW)[0], run(net, image=first(norm(RAW)))[0])
    close(run(served, image=RAW[:1, :4, :5])[0], run(net, image=first(norm(RAW[:1, :4, :5])))[0])


@pytest.mark.parametrize("layout", [None, "nhwc", "nchw"])
@pytest.mark.parametrize("pattern", ["n h w c -> c", "n c h w -> c", "n h w c ->"])
@pytest.mark.parametrize("net", [conv_net, channels_last_net])
def test_every_layout_meets_every_model(net, pattern, layout):
    own = "nchw" if pattern.startswith("n c") else "nhwc"
    norm = norm_of(first(RAW) if own == "nchw" else RAW, pattern)
    model = net()
    served = merge(model, norm, layout=layout)
    raw = first(RAW) if (layout or own) == "nchw" else RAW
    y = norm(first(RAW)) if own == "nchw" else norm(RAW)
    y = y.transpose(0, 2, 3, 1) if own == "nchw" else y
    name = model.graph.input[0].name
    fed = first(y) if net is conv_net else np.ascontiguousarray(y)
    close(run(served, **{name: raw})[0], run(model, **{name: fed})[0])


def test_mean_images_and_color_whitening():
    net = conv_net(dims=("n", 3, 6, 7))
    many = RANDOM.integers(0, 256, (9, 6, 7, 3), dtype=np.uint8)
    for norm in (
        norm_of(many, "n h w c -> h w c"),
        zm.whiten(zm.measure(many, "n h w c -> c", covariance=True), "zca"),
    ):
        close(run(merge(net, norm), image=RAW)[0], run(net, image=first(norm(RAW)))[0])
    with pytest.raises(zm.PatternError, match="with 6 entries along 'h', but the normalizer has 8"):
        merge(net, norm_of(np.zeros((2, 8, 7, 3), np.uint8), "n h w c -> h w c", zm.zero_mean))


def test_whitening_to_fewer_channels_feeds_a_net_of_fewer():
    many = RANDOM.integers(0, 256, (9, 6, 7, 4), dtype=np.uint8)
    profile = zm.measure(many, "n h w c -> c", covariance=True)
    norm, net = zm.whiten(profile, "pca", n_components=3), conv_net()
    close(run(merge(net, norm), image=many)[0], run(net, image=first(norm(many)))[0])
    rows = RANDOM.normal(size=(50, 6))
    norm = zm.whiten(zm.measure(rows, covariance=True), "pca", n_components=5)
    fed = norm(rows)
    close(run(merge(dense_net(), norm), x=rows)[0], run(dense_net(), x=fed)[0])


def test_half_precision_models():
    net, norm = conv_net(kind=np.float16), norm_of()
    served = merge(net, norm)
    assert served.graph.output[0].type.tensor_type.elem_type == TensorProto.FLOAT16
    truth = run(net, image=first(norm(RAW, dtype="float16")))[0]
    close(run(served, image=RAW)[0], truth.astype(np.float64), 2e-2)


def test_layout_that_nothing_tells_is_asked_for():
    nodes = [helper.make_node("Flatten", ["x"], ["y"])]
    net = model_of(nodes, [info("x", ("n", 3, "h", 3))], [info("y", ("n", None))])
    norm = norm_of()
    with pytest.raises(zm.PatternError, match=r"float32 \[n, 3, h, 3\].*=  *\(--model-layout"):
        merge(net, norm)
    served = merge(net, norm, model_layout="nchw")
    x = RAW[:, :, :3]
    close(run(served, x=x)[0], first(norm(x)).reshape(2, -1))
    open_net = model_of(nodes, [info("x", ("n", "a", "b", "c"))], [info("y", ("n", None))])
    with pytest.raises(zm.PatternError, match="where its channels are is not clear"):
        merge(open_net, norm)
    one = norm_of(pattern="n h w c ->")  # one number for all: it does not matter
    served = merge(open_net, one)
    assert served.graph.input[0].doc_string == (
        "raw uint8 (0..255), axes n axis1 axis2 axis3; normalized inside"
    )
    close(run(served, x=RAW)[0], one(RAW).reshape(2, -1))


# ---------------------------------------------------------------- rows, sequences, other models


def test_rows_and_sequences():
    rows = RANDOM.normal(3, 2, (40, 5)).astype(np.float32)
    norm = norm_of(rows, "n d -> d")
    close(run(merge(dense_net(), norm), x=rows)[0], run(dense_net(), x=norm(rows))[0])
    wide = rows.astype(np.float64)
    norm = norm_of(wide, "n d -> d")
    served = merge(dense_net(), norm)
    assert served.graph.input[0].type.tensor_type.elem_type == TensorProto.DOUBLE
    close(run(served, x=wide)[0], run(dense_net(), x=norm(wide))[0])
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"])]
    net = model_of(
        nodes, [info("x", ("n", "t", 5))], [info("y", ("n", "t", 2))], [weights(5, 2, name="w")]
    )
    sound = RANDOM.normal(3, 2, (4, 10, 5)).astype(np.float32)
    norm = norm_of(sound, "n t f -> f")
    close(run(merge(net, norm), x=sound)[0], run(net, x=norm(sound))[0])


def test_other_inputs_stay():
    nodes = [
        helper.make_node("Gemm", ["x", "w", "b"], ["g"], transB=1),
        helper.make_node("Mul", ["g", "gate"], ["y"]),
    ]
    tensors = [weights(2, 5, name="w"), weights(2, name="b")]
    inputs = [info("gate", ("n", 2)), info("x", ("n", 5)), info("unused", (1,))]
    net = model_of(nodes, inputs, [info("y", ("n", 2))], tensors)
    rows = RANDOM.normal(3, 2, (4, 5)).astype(np.float32)
    norm, gate = norm_of(rows, "n d -> d"), np.ones((4, 2), np.float32)
    served = merge(net, norm)  # only x has five columns
    assert [v.name for v in served.graph.input] == ["gate", "x", "unused"]
    others = {"gate": gate, "unused": np.zeros(1, np.float32)}
    close(run(served, x=rows, **others)[0], run(net, x=norm(rows), **others)[0])
    both = norm_of(rows[:, :2], "n d -> d")
    assert merge(net, both).graph.input[0].doc_string.endswith("normalized inside")
    net.graph.input.append(info("more", ("n", 5)))
    with pytest.raises(zm.PatternError, match=r"'gate', 'x', 'unused', 'more'.*say so with input="):
        merge(net, norm)
    close(
        run(merge(net, norm, input="x"), x=rows, more=rows, **others)[0],
        gate * run(dense_net(), x=norm(rows))[0],
    )
    with pytest.raises(zm.PatternError, match="no input 'z'; its inputs are 'gate'"):
        merge(net, norm, input="z")


def test_old_models_whose_initializers_are_inputs():
    net, norm = conv_net(opset=7, ir=3), norm_of()
    served = merge(net, norm)
    assert served.ir_version == 3
    assert [n.op_type for n in served.graph.node].count("Constant") == 3
    close(run(served, image=RAW)[0], run(net, image=first(norm(RAW)))[0])


def test_models_from_before_broadcasting_are_converted():
    net = conv_net(dims=(2, 3, 6, 7), opset=6, ir=3)
    served, norm = merge(net, norm_of()), norm_of()
    assert served.opset_import[0].version == 13
    truth = run(conv_net(dims=(2, 3, 6, 7)), image=first(norm(RAW)))[0]
    close(run(served, image=RAW)[0], truth)
    old = helper.make_node("Add", ["y", "b"], ["z"], broadcast=1, axis=1)
    net.graph.node.append(old)
    net.graph.output[0].name = "z"
    with pytest.raises(zm.PatternError, match=r"of opset 6.*cannot be converted.*export it again"):
        merge(net, norm)


def test_graphs_inside_nodes_read_the_normalized_tensor():
    model = parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 17]>
        net (float[n, 5] x, bool flag) => (float[n, 5] y) {
          two = Constant <value = float {2.0}> ()
          y = If (flag) <
            then_branch = yes () => (float[n, 5] a) { a = Mul (x, two) },
            else_branch = no () => (float[n, 5] b) { b = Identity (x) }
          >
        }"""
    )
    rows = RANDOM.normal(3, 2, (4, 5)).astype(np.float32)
    norm = norm_of(rows, "n d -> d")
    served = merge(model, norm)
    for flag, factor in ((True, 2), (False, 1)):
        y = run(served, x=rows, flag=np.array(flag))[0]
        close(y, factor * norm(rows))


def test_an_input_that_is_an_output_as_well_keeps_its_name():
    net = parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 17]>
        net (float[n, 5] x) => (float[n, 5] x, float[n, 5] y) { y = Relu (x) }"""
    )
    rows = RANDOM.normal(3, 2, (4, 5)).astype(np.float32)
    norm = norm_of(rows, "n d -> d")
    served = merge(net, norm)
    assert [v.name for v in served.graph.input] == ["x_raw"]
    x, y = run(served, x_raw=rows)
    close(x, norm(rows))
    close(y, np.maximum(norm(rows), 0))


def test_names_never_clash():
    net = conv_net()
    for node in net.graph.node:
        for index, name in enumerate(node.output[:]):
            node.output[index] = {"c": "zeromean_cast1", "r": "zeromean_normalized"}.get(name, name)
        for index, name in enumerate(node.input[:]):
            node.input[index] = {"c": "zeromean_cast1", "r": "zeromean_normalized"}.get(name, name)
    norm = norm_of()
    close(run(merge(net, norm), image=RAW)[0], run(net, image=first(norm(RAW)))[0])


def test_weights_in_another_file(tmp_path):
    (tmp_path / "from").mkdir()
    (tmp_path / "to").mkdir()
    net, norm = conv_net(), norm_of()
    truth = run(net, image=first(norm(RAW)))[0]
    path = tmp_path / "from" / "net.onnx"
    onnx.save(net, path, save_as_external_data=True, size_threshold=0, location="net.bin")
    served = merge(path, norm)
    close(run(served, image=RAW)[0], truth)
    write_model(served, tmp_path / "to" / "served.onnx", most_bytes=100)
    assert (tmp_path / "to" / "served.onnx.data").exists()
    close(run(read_model(tmp_path / "to" / "served.onnx"), image=RAW)[0], truth)
    write_model(served, tmp_path / "to" / "one.onnx")
    close(run(read_model(tmp_path / "to" / "one.onnx"), image=RAW)[0], truth)
    (tmp_path / "from" / "net.bin").unlink()
    with pytest.raises(zm.FormatError, match="its weights lie in another file"):
        merge(path, norm)


def test_files_that_are_no_models(tmp_path):
    with pytest.raises(zm.SourceError, match="there is no such model file"):
        merge(tmp_path / "no.onnx", norm_of())
    (tmp_path / "text.onnx").write_text("not a model, but 4 lines\n" * 4)
    with pytest.raises(zm.FormatError, match=r"is not an ONNX model"):
        merge(tmp_path / "text.onnx", norm_of())
    (tmp_path / "empty.onnx").write_bytes(b"")
    with pytest.raises(zm.FormatError, match=r"is not an ONNX model"):
        merge(tmp_path / "empty.onnx", norm_of())
    with pytest.raises(zm.FormatError, match=r"a path or an onnx.ModelProto, not a dict"):
        merge({}, norm_of())


def test_models_made_of_functions():
    model = parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 17, "local" : 1]>
        net (float[n, 5] x) => (float[n, 5] y) { y = local.twice (x) }
        <domain: "local", opset_import: ["" : 17]>
        twice (x) => (y) { y = Add (x, x) }"""
    )
    rows = RANDOM.normal(3, 2, (4, 5)).astype(np.float32)
    norm = norm_of(rows, "n d -> d")
    close(run(merge(model, norm), x=rows)[0], 2 * norm(rows))


def test_the_model_itself_is_not_changed_and_says_what_it_holds():
    net, norm = conv_net(), norm_of(channels="RGB")
    net.metadata_props.add(key="author", value="somebody")
    before = net.SerializeToString(deterministic=True)
    served = merge(net, norm)
    assert net.SerializeToString(deterministic=True) == before
    read, placement = metadata.described(served)
    assert read == norm
    assert placement == {
        "how": "in front",
        "input": "image",
        "dtype": "uint8",
        "layout": "nhwc",
        "normalized": "zeromean_normalized",
        "layout_inside": "nchw",
        "rank": 4,
        "takes": "float32",
    }
    assert {p.key: p.value for p in served.metadata_props}["author"] == "somebody"
    assert served.graph.input[0].doc_string == (
        "raw uint8 (RGB 0..255), axes n h w c; normalized inside"
    )


# ---------------------------------------------------------------- channels


def test_channel_order_is_refused_or_mended():
    net, norm = conv_net(), norm_of(channels="BGR")
    with pytest.raises(zm.UnitError, match="wants RGB, but the normalizer was measured on BGR"):
        merge(net, norm, channels="RGB")
    served = merge(net, norm, channels="RGB", reorder=True)
    wanted = run(net, image=first(norm(RAW)[..., ::-1]))[0]
    close(run(served, image=RAW)[0], wanted)
    assert merge(net, norm, channels="BGR").graph.node[-3].name == "first"
    with pytest.raises(zm.UnitError, match="does not say which order its channels have"):
        merge(net, norm_of(), channels="RGB")
    with pytest.raises(zm.UnitError, match="wants RGB, but the normalizer was measured on HSV"):
        merge(net, norm_of(channels="HSV"), channels="RGB")


def test_counts_of_channels_must_agree():
    four = norm_of(RANDOM.integers(0, 256, (2, 6, 7, 4), dtype=np.uint8))
    with pytest.raises(zm.PatternError, match="with 3 channels, but the normalizer has 4; measure"):
        merge(conv_net(), four)
    with pytest.raises(zm.PatternError, match="names 2 axes, but the tensor has 4"):
        merge(conv_net(), norm_of(RANDOM.normal(size=(9, 3)), "n d -> d"))


# ---------------------------------------------------------------- refusals


def test_models_that_normalize_already():
    norm = norm_of()
    served = merge(conv_net(), norm)
    with pytest.raises(zm.UnitError, match="holds a normalizer of zeromean already"):
        merge(served, norm)
    metadata.forget(served)
    with pytest.raises(zm.UnitError, match="takes uint8, which no normalized data is"):
        merge(served, norm)
    net = conv_net()
    nodes = list(net.graph.node)
    mean = numpy_helper.from_array(np.full((3, 1, 1), 0.5, np.float32), "mean")
    net.graph.initializer.append(mean)
    nodes[0].input[0] = "centered"
    del net.graph.node[:]
    net.graph.node.extend([helper.make_node("Sub", ["image", "mean"], ["centered"]), *nodes])
    with pytest.raises(zm.UnitError, match=r"'image' already \(Sub before Conv\).*force=True"):
        merge(net, norm)
    y = run(merge(net, norm, force=True), image=RAW)[0]
    close(y, run(net, image=first(norm(RAW)))[0])
    net.graph.node[0].op_type = "Mul"
    with pytest.raises(zm.UnitError, match=r"multiplies its input 'image' by 0.5 itself"):
        merge(net, norm)


def test_integer_inputs_are_refused_even_by_force():
    net = parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 17]>
        net (uint8[n, 3, h, w] x) => (uint8[n, 3, h, w] y) { y = Identity (x) }"""
    )
    for force in (False, True):
        with pytest.raises(zm.UnitError, match="takes uint8"):
            merge(net, norm_of(), force=force)


# ---------------------------------------------------------------- other runtimes


def test_the_reference_and_openvino_agree(monkeypatch):
    net, norm = conv_net(), norm_of()
    served = merge(net, norm)
    truth = run(served, image=RAW)[0]
    evaluator = onnx.reference.ReferenceEvaluator(served)
    close(evaluator.run(None, {"image": RAW})[0], truth)
    monkeypatch.setenv("CI", "true")  # else its import sends usage data
    openvino = pytest.importorskip("openvino", reason="the package openvino is not installed")
    core = openvino.Core()
    compiled = core.compile_model(
        core.read_model(served.SerializeToString()), "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
    )
    close(next(iter(compiled({"image": RAW}).values())), truth, 1e-4)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of PyTorch's older exporter
@pytest.mark.filterwarnings("ignore:.*legacy TorchScript.*")
def test_what_pytorch_exports(tmp_path):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    torch.manual_seed(0)
    net = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 7, stride=2, padding=3),
        torch.nn.BatchNorm2d(4),
        torch.nn.ReLU(),
        torch.nn.AdaptiveAvgPool2d(1),
        torch.nn.Flatten(),
        torch.nn.Linear(4, 2),
    ).eval()
    axes = {"image": {0: "n", 2: "h", 3: "w"}, "y": {0: "n"}}
    torch.onnx.export(
        net,
        (torch.zeros(2, 3, 8, 8),),
        tmp_path / "net.onnx",
        input_names=["image"],
        output_names=["y"],
        dynamic_axes=axes,
        dynamo=False,
    )
    norm = norm_of(channels="RGB")
    served = merge(tmp_path / "net.onnx", norm)
    with torch.no_grad():
        truth = net(torch.from_numpy(first(norm(RAW)))).numpy()
    close(run(served, image=RAW)[0], truth)
