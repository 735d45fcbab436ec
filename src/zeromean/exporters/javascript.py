"""A JavaScript module (ES2020): constants and functions, for a browser, Node or Deno.

Numbers in JavaScript are float64, and are rounded once when they go into the Float32Array, so the
result is within one unit in the last place.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from zeromean.exporters.forms import expected, raw_dtype
from zeromean.exporters.memory import Walk, walk_of
from zeromean.exporters.sources import coded, run_code
from zeromean.exporters.spelling import banner, check_size, flat
from zeromean.exporters.targets import CannotRun, Made, Order, Target

if TYPE_CHECKING:
    from zeromean.normalizer import Normalizer

_TITLE = "JavaScript module"
_ARRAYS = {
    **{f"uint{bits}": f"Uint{bits}Array" for bits in (8, 16, 32)},
    **{f"int{bits}": f"Int{bits}Array" for bits in (8, 16, 32)},
    "float16": "Float32Array",
    "float32": "Float32Array",
}  # Float64Array for all else: 64-bit integers, float64, and columns that differ


def _make(norm: Normalizer, order: Order) -> Made:
    check_size(norm, _TITLE)
    return coded(norm, _TITLE, order, lambda held: _written(held, order.name))


def _written(norm: Normalizer, name: str) -> tuple[str, str, str]:
    """The module, what it expects and what it gives."""
    walk = walk_of(norm, _TITLE)
    expects = expected(norm)
    reduced = walk.n_out != walk.n_features
    gives = f"Float32Array, {'features last' if reduced else 'same axes'}"
    loop = _each(walk) if norm.matrix is None else _mixing(walk)
    parts = [_head(norm, walk, name, expects), loop]
    if walk.channels_last:
        parts.append(_planar(norm))
        if _fits_canvas(norm, walk):
            parts.append(_CANVAS)
    return "\n".join(parts), expects, gives


def _head(norm: Normalizer, walk: Walk, name: str, expects: str) -> str:
    held = [("shift", norm.shift), ("offset", norm.offset)]
    if norm.matrix is None:
        held[1:1] = [("scale", norm.scale)]
    else:
        held.append(("matrix", norm.matrix))  # n_out rows, one after the other
    lines = [
        f"// {banner(norm, name)}",
        f"// Expects {expects}. Gives Float32Array.",
        "",
        f"export const expects = {json.dumps(expects)};",
        f"export const features = {walk.n_features};",
    ]
    if norm.matrix is not None:
        lines.append(f"export const out = {walk.n_out};")
    lines += [
        f"export const {what} = new Float64Array([\n  {flat(v, indent='  ')}]);" for what, v in held
    ]
    return "\n".join(lines) + "\n"


def _each(walk: Walk) -> str:
    inner = " x ".join(walk.inner)
    told = f"; inner = {inner} values in a row share a feature" if inner else ""
    given, place = (
        (", inner", "Math.floor(i / inner) % features") if inner else ("", "i % features")
    )
    return f"""/** One value of feature k. */
export function value(x, k) {{
  return Math.fround((x - shift[k]) / scale[k] + offset[k]);
}}

/** All values of x, an array or typed array{told}. */
export function normalize(x{given}) {{
  const y = new Float32Array(x.length);
  for (let i = 0; i < x.length; i++) y[i] = value(x[i], {place});
  return y;
}}
"""


def _mixing(walk: Walk) -> str:
    """A sample's features are side by side, or `inner` values apart."""
    told, given, start, end, step = "", "", "i * features", "i * out", ""
    if walk.inner:
        told = f"; inner = {' x '.join(walk.inner)} values in a row share a feature"
        given, step = ", inner", " * inner"
        start, end = (f"(i - i % inner) * {n} + i % inner" for n in ("features", "out"))
    return f"""/** All samples of x, an array or typed array{told}. */
export function normalize(x{given}) {{
  const samples = x.length / features;
  const y = new Float32Array(samples * out);
  for (let i = 0; i < samples; i++) {{
    const from = {start}, to = {end};
    for (let j = 0; j < out; j++) {{
      let sum = offset[j];
      for (let k = 0; k < features; k++)
        sum += (x[from + k{step}] - shift[k]) * matrix[j * features + k];
      y[to + j{step}] = sum;
    }}
  }}
  return y;
}}
"""


def _planar(norm: Normalizer) -> str:
    count = "out" if norm.matrix is not None else "features"
    return f"""/** One picture, channels last in x, channels first in the result. */
export function normalizeToCHW(x) {{
  const last = normalize(x), pixels = x.length / features;
  const y = new Float32Array(last.length);
  for (let i = 0; i < pixels; i++)
    for (let k = 0; k < {count}; k++) y[k * pixels + i] = last[i * {count} + k];
  return y;
}}
"""


def _fits_canvas(norm: Normalizer, walk: Walk) -> bool:
    """Whether a canvas gives this kind of data: 8-bit RGB."""
    return norm.units.range == (0, 255) and norm.units.channels == "RGB" and walk.n_features == 3


_CANVAS = """/** The pixels of a canvas, channels first. Alpha is dropped: draw on an opaque one. */
export function fromImageData(imageData) {
  const { data, width, height } = imageData;
  const rgb = new Uint8ClampedArray(width * height * 3);
  for (let i = 0; i < width * height; i++)
    for (let k = 0; k < 3; k++) rgb[3 * i + k] = data[4 * i + k];
  return normalizeToCHW(rgb);
}
"""

_MAIN = """import fs from "node:fs";
import { normalize } from "./exported.mjs";
const bytes = fs.readFileSync(0);
const x = new ARRAY(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length));
const y = normalize(x, INNER);
fs.writeSync(1, Buffer.from(y.buffer));
"""


def _run(made: Made, x: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return run_code(made, x, _executed)


def _executed(code: bytes, norm: Normalizer, x: npt.NDArray[Any]) -> npt.NDArray[Any]:
    walk = walk_of(norm, _TITLE)
    array = _ARRAYS.get(raw_dtype(norm).name, "Float64Array")
    typed = x.astype(array.removesuffix("Array").lower())
    main = _MAIN.replace("ARRAY", array).replace("INNER", str(walk.inner_length(norm, x.shape)))
    y = in_node(code, main, np.ascontiguousarray(typed).tobytes())
    return np.frombuffer(y, np.float32).reshape(walk.shape_out(norm, x.shape))


def in_node(module: bytes, main: str, data: bytes) -> bytes:
    """Run a program that imports the module in Node, with data on its standard input.

    Raises
    ------
    CannotRun
        Where there is no Node.
    """
    node = shutil.which("node") or shutil.which("nodejs")
    if node is None:
        raise CannotRun("there is no Node here (node)")
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "exported.mjs").write_bytes(module)
        program = Path(folder, "main.mjs")
        program.write_text(main)
        return subprocess.run(
            [node, str(program)], input=data, capture_output=True, check=True
        ).stdout


TARGET = Target(
    "javascript",
    _TITLE,
    (".mjs", ".js"),
    _make,
    _run,
    library="Node",
    options=frozenset({"layout", "channels"}),
)
