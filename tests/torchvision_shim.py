"""Runs a script beside a torchvision whose C++ operators do not fit the PyTorch that is here.

``python tests/torchvision_shim.py script.py`` declares the operators that `import torchvision`
looks for. The transforms, which is all that the exports need, are written in Python.
"""

from __future__ import annotations

import runpy
import sys

import torch


def declare_operators() -> None:
    """`nms` and `qnms`, declared and never defined."""
    library = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    declare_operators.kept = library  # type: ignore[attr-defined]  # gone when it is collected


if __name__ == "__main__":
    declare_operators()
    del sys.argv[0]
    runpy.run_path(sys.argv[0], run_name="__main__")
