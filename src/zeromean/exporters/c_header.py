"""A C header (C99, C++11): constants and two functions, no library.

It computes in double and rounds once to float, so it is within one unit in the last place. A
compiler that contracts a product and a sum into one operation rounds less often, not more.
"""

from __future__ import annotations

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

_TITLE = "C header"
_NUMPY = {"float": "float32", "double": "float64"}
_TYPES = {
    **{f"{sign}int{bits}": f"{sign}int{bits}_t" for sign in ("", "u") for bits in (8, 16, 32, 64)},
    "float16": "float",
    "float32": "float",
    "float64": "double",
}


def _make(norm: Normalizer, order: Order) -> Made:
    check_size(norm, _TITLE)
    return coded(norm, _TITLE, order, lambda held: _written(held, order.name))


def _written(norm: Normalizer, name: str) -> tuple[str, str, str]:
    """The header, what it expects and what it gives."""
    walk, kind = walk_of(norm, _TITLE), _kind(norm)
    expects = expected(norm)
    reduced = walk.n_out != walk.n_features
    gives = f"float32, {walk.n_out} features on the last axis" if reduced else "float32, same axes"
    parts = [_head(norm, name, expects, kind), _constants(norm, walk), _loop(norm, walk, kind)]
    if walk.channels_last:
        parts.append(_planar(norm, walk, kind))
    parts.append("#endif /* ZEROMEAN_NORMALIZE_H */\n")
    return "\n".join(parts), expects, gives


def _kind(norm: Normalizer) -> str:
    """The C type of raw values: double where columns differ."""
    return "uint8_t" if norm.dtype == "bool" else _TYPES[raw_dtype(norm).name]


def _head(norm: Normalizer, name: str, expects: str, kind: str) -> str:
    return f"""/* {banner(norm, name)}
   Expects {expects}, as {kind}. Gives float. */
#ifndef ZEROMEAN_NORMALIZE_H
#define ZEROMEAN_NORMALIZE_H

#include <stddef.h>
#include <stdint.h>
"""


def _constants(norm: Normalizer, walk: Walk) -> str:
    names = {"shift": norm.shift}
    if norm.matrix is None:
        names["scale"] = norm.scale
    if norm.offset.any() or norm.matrix is not None:
        names["offset"] = norm.offset
    lines = [f"#define ZEROMEAN_FEATURES {walk.n_features}"]
    if walk.n_out != walk.n_features:
        lines.append(f"#define ZEROMEAN_OUT {walk.n_out}")
    for name, values in names.items():
        lines.append(
            f"static const double zeromean_{name}[{values.size}] = {{\n    {flat(values)}}};"
        )
    if norm.matrix is not None:
        rows = ",\n    ".join("{" + flat(row, indent="     ") + "}" for row in norm.matrix)
        size = f"[{walk.n_out}][{walk.n_features}]"
        lines.append(f"static const double zeromean_matrix{size} = {{\n    {rows}}};")
    return "\n".join(lines) + "\n"


def _loop(norm: Normalizer, walk: Walk, kind: str) -> str:
    if norm.matrix is not None:
        return _mixing_loop(walk, kind)
    plus = " + zeromean_offset[k]" if norm.offset.any() else ""
    told, given, at = _inner(walk)
    return f"""/* One value of feature k. */
static inline float zeromean_value(double x, size_t k) {{
    return (float)((x - zeromean_shift[k]) / zeromean_scale[k]{plus});
}}

/* count values{told}; y may be where x is if both have the same type. */
static inline void zeromean_normalize(const {kind} *x, float *y, size_t count{given}) {{
    size_t i;
    for (i = 0; i < count; ++i)
        y[i] = zeromean_value((double)x[i], {at} % ZEROMEAN_FEATURES);
}}
"""


def _inner(walk: Walk) -> tuple[str, str, str]:
    """What the comment says of values that share a feature, the parameter, and the place."""
    if not walk.inner:
        return "", "", "i"
    axes = " x ".join(walk.inner)
    return f", of which inner = {axes} in a row share a feature", ", size_t inner", "i / inner"


def _mixing_loop(walk: Walk, kind: str) -> str:
    """A sample's features are side by side, or `inner` values apart."""
    told, given, _ = _inner(walk)
    n_out, step = _n_out(walk), " * inner" if walk.inner else ""
    start = "(i - i % inner) * {} + i % inner" if walk.inner else "i * {}"
    return f"""/* count values, all features of each sample{told}; y must not be where x is. */
static inline void zeromean_normalize(const {kind} *x, float *y, size_t count{given}) {{
    size_t i, j, k, samples = count / ZEROMEAN_FEATURES;
    for (i = 0; i < samples; ++i) {{
        const {kind} *from = x + {start.format("ZEROMEAN_FEATURES")};
        float *to = y + {start.format(n_out)};
        for (j = 0; j < {n_out}; ++j) {{
            double sum = zeromean_offset[j];
            for (k = 0; k < ZEROMEAN_FEATURES; ++k)
                sum += ((double)from[k{step}] - zeromean_shift[k]) * zeromean_matrix[j][k];
            to[j{step}] = (float)sum;
        }}
    }}
}}
"""


def _planar(norm: Normalizer, walk: Walk, kind: str) -> str:
    """Channels in front: what a decoder gives, as most networks want it."""
    told = "/* One picture of that many pixels, channels last in x, channels first in y. */"
    head = f"static inline void zeromean_normalize_chw(const {kind} *x, float *y, size_t pixels) {{"
    if norm.matrix is None:
        return f"""{told}
{head}
    size_t i, k;
    for (i = 0; i < pixels; ++i)
        for (k = 0; k < ZEROMEAN_FEATURES; ++k)
            y[k * pixels + i] = zeromean_value((double)x[i * ZEROMEAN_FEATURES + k], k);
}}
"""
    n_out = _n_out(walk)
    return f"""{told}
{head}
    size_t i, k;
    float one[{n_out}];
    for (i = 0; i < pixels; ++i) {{
        zeromean_normalize(x + i * ZEROMEAN_FEATURES, one, ZEROMEAN_FEATURES);
        for (k = 0; k < {n_out}; ++k)
            y[k * pixels + i] = one[k];
    }}
}}
"""


def _n_out(walk: Walk) -> str:
    return "ZEROMEAN_OUT" if walk.n_out != walk.n_features else "ZEROMEAN_FEATURES"


# ---------------------------------------------------------------- compiled and run

_MAIN = """#include <stdio.h>
#include <stdlib.h>
#include "exported.h"
int main(int argc, char **argv) {{
    size_t count = strtoull(argv[1], 0, 10), total = strtoull(argv[2], 0, 10);
    size_t inner = strtoull(argv[argc - 1], 0, 10);
    {kind} *x = ({kind} *)malloc(count * sizeof *x);
    float *y = (float *)malloc(total * sizeof *y);
    if (!x || !y || fread(x, sizeof *x, count, stdin) != count) return 1;
    {call};
    (void)inner;
    return fwrite(y, sizeof *y, total, stdout) != total;
}}
"""


def _run(made: Made, x: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return run_code(made, x, _executed)


def _executed(code: bytes, norm: Normalizer, x: npt.NDArray[Any]) -> npt.NDArray[Any]:
    walk = walk_of(norm, _TITLE)
    inner = walk.inner_length(norm, x.shape)
    call = f"zeromean_normalize(x, y, count{', inner' if walk.inner else ''})"
    total = x.size // walk.n_features * walk.n_out
    kind = _kind(norm)
    with tempfile.TemporaryDirectory() as folder:
        program = compiled(code, _MAIN.format(kind=kind, call=call), Path(folder))
        typed = np.ascontiguousarray(x, _NUMPY.get(kind, kind.removesuffix("_t")))
        y = subprocess.run(
            [program, *map(str, (x.size, total, inner))],
            input=typed.tobytes(),
            capture_output=True,
            check=True,
        ).stdout
    return np.frombuffer(y, np.float32).reshape(walk.shape_out(norm, x.shape))


def compiled(header: bytes, main: str, folder: Path) -> str:
    """Compile a program that includes the header, with every warning an error.

    Raises
    ------
    CannotRun
        Where there is no C compiler.
    """
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        raise CannotRun("there is no C compiler (cc, gcc or clang) here")
    (folder / "exported.h").write_bytes(header)
    (folder / "main.c").write_text(main)
    program = str(folder / "main")
    flags = ["-std=c99", "-O2", "-Wall", "-Wextra", "-Werror", "-pedantic"]
    subprocess.run(
        [compiler, *flags, "-o", program, str(folder / "main.c")], check=True, capture_output=True
    )
    return program


TARGET = Target(
    "c",
    _TITLE,
    (".h",),
    _make,
    _run,
    library="the C compiler",
    options=frozenset({"layout", "channels"}),
)
