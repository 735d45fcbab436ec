"""What the figures depend on: cores, CPU family, Python and library versions; nothing private."""

from __future__ import annotations

import os
import platform
import re
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

_PACKAGES = {
    "zeromean": "zeromean",
    "NumPy": "numpy",
    "Numba": "numba",
    "scikit-learn": "scikit-learn",
    "OpenCV": "opencv-python-headless",
    "pyvips": "pyvips",
    "Pillow": "pillow",
    "simplejpeg": "simplejpeg",
}


def describe_machine() -> str:
    """Such as "2 cores, x86-64 AMD EPYC with AVX-512"."""
    name = {"x86_64": "x86-64", "AMD64": "x86-64"}.get(platform.machine(), platform.machine())
    vector = "AVX-512" if has_feature("avx512f") else "AVX2" if has_feature("avx2") else ""
    words = f"{cores()} cores, {name} {_family()}".rstrip()
    return f"{words} with {vector}" if vector else words


def describe_software() -> str:
    """Python and library versions on one line."""
    libraries = [f"{name} {_version(package)}" for name, package in _PACKAGES.items()]
    return ", ".join([f"Python {platform.python_version()}", *libraries, f"libvips {_libvips()}"])


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def has_feature(flag: str) -> bool:
    """Whether the CPU names this feature; False where that cannot be known."""
    return flag in _cpu_field("flags").split()


def _family() -> str:
    """The family in the model's name: its words up to the first one with a digit."""
    name = re.sub(r"\((R|TM|r|tm)\)|\bCPU\b|\bProcessor\b|@.*", " ", _cpu_field("model name"))
    words = []
    for word in name.split():
        if any(c.isdigit() for c in word):
            break
        words.append(word)
    return " ".join(words)


def _cpu_field(name: str) -> str:
    path = Path("/proc/cpuinfo")
    if not path.exists():
        return ""
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return ""


def _version(package: str) -> str:
    if package == "zeromean":
        import zeromean

        return zeromean.__version__
    try:
        return version(package)
    except PackageNotFoundError:
        return "(not installed)"


def _libvips() -> str:
    try:
        import pyvips
    except ModuleNotFoundError:
        return "(not installed)"

    return ".".join(str(pyvips.version(i)) for i in range(3))
