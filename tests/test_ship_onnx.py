"""The bundle of `docs/howto/ship-onnx.md` runs in a browser and in Node, by the page's own code."""

from __future__ import annotations

import functools
import http.server
import json
import os
import re
import shutil
import subprocess
import threading
from pathlib import Path

import numpy as np
import pytest

import zeromean as zm

onnx = pytest.importorskip("onnx", reason="the package onnx is not installed")
ort = pytest.importorskip("onnxruntime", reason="the package onnxruntime is not installed")
image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")

from zeromean.graphs.merging import merge  # noqa: E402

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "howto" / "ship-onnx.md").read_text(encoding="utf-8")
MODULES = Path(os.environ.get("NODE_MODULES", ROOT / "node_modules"))
WEB = MODULES / "onnxruntime-web" / "dist"
NODE = shutil.which("node")
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")

needs_web = pytest.mark.skipif(
    not WEB.is_dir(),
    reason="no onnxruntime-web: `npm install onnxruntime-web`, or set NODE_MODULES to where it is",
)
RAW = np.random.default_rng(6).integers(0, 256, (1, 9, 11, 3), dtype=np.uint8)
NORM = zm.standardize(zm.measure(RAW, "n h w c -> c", channels="RGB"))


def block(language):
    return re.search(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)[1]


def net():
    """Zero-padded convolution, ReLU, mean, two scores."""
    values = np.random.default_rng(1).normal(size=4 * 27).astype(np.float32).tolist()
    return onnx.parser.parse_model(
        f"""<ir_version: 8, opset_import: ["" : 17]>
        net (float[n, 3, h, w] image) => (float[n, 2] scores)
        <float[4, 3, 3, 3] k = {{{", ".join(f"{v:.9g}" for v in values)}}},
         float[4, 2] m = {{1, -1, 2, 0.5, -0.25, 1, 3, 0.125}}>
        {{
          c = Conv <pads = [1, 1, 1, 1]> (image, k)
          r = Relu (c)
          g = GlobalAveragePool (r)
          f = Flatten (g)
          scores = MatMul (f, m)
        }}"""
    )


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bundle")
    onnx.save(merge(net(), NORM), folder / "served.onnx")
    (folder / "index.html").write_text(block("html"), encoding="utf-8")
    (folder / "serve.mjs").write_text(block("js"), encoding="utf-8")
    RAW.tofile(folder / "pixels.bin")
    image.fromarray(RAW[0]).save(folder / "picture.png")
    return folder


@pytest.fixture(scope="module")
def truth():
    """By hand: normalized in Python, and the network alone."""
    session = ort.InferenceSession(net().SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"image": np.ascontiguousarray(NORM(RAW, layout="chw"))})[0]


def near(scores, truth):
    return np.abs(np.ravel(scores) - truth.ravel()).max() < 1e-4 * np.abs(truth).max()


def test_the_page_shows_both():
    assert "ort.InferenceSession.create" in block("html")
    assert "ort.InferenceSession.create" in block("js")
    for word in ("mean", "std", "255"):
        assert word not in block("html"), "normalization belongs into the model"


@needs_web
@pytest.mark.skipif(NODE is None, reason="Node is not installed")
def test_in_node(bundle, truth):
    if not (bundle / "node_modules").exists():
        (bundle / "node_modules").symlink_to(MODULES.resolve())
    call = [NODE, "serve.mjs", "served.onnx", "pixels.bin", "9", "11"]
    done = subprocess.run(call, cwd=bundle, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["dims"] == [1, 2]
    assert near(found["data"], truth)


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@pytest.fixture
def address(bundle):
    for name in ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm"):
        if not (bundle / name).exists():
            (bundle / name).symlink_to((WEB / name).resolve())
    handler = functools.partial(Quiet, directory=str(bundle))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/index.html"
    server.shutdown()
    thread.join()
    server.server_close()


@needs_web
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: install it or set CHROMIUM")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_in_a_browser(bundle, address, truth):
    sync_api = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
    rgba = np.concatenate([RAW[0], np.full((9, 11, 1), 255, np.uint8)], -1)
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page()
        errors = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(address)
        page.wait_for_function("window.predict !== undefined", timeout=30_000)
        scores = page.evaluate(
            "data => window.predict({ data, width: 11, height: 9 })", rgba.ravel().tolist()
        )
        page.set_input_files("#file", bundle / "picture.png")
        page.wait_for_function("document.getElementById('answer').textContent !== ''")
        answer = page.text_content("#answer")
        browser.close()
    assert errors == []
    assert near(scores, truth)
    assert answer == ("warm" if truth[0, 1] > truth[0, 0] else "cool")
