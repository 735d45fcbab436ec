"""The package itself: names, lazy imports, floors, and documentation of everything public."""

from __future__ import annotations

import ast
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import zeromean as zm

SOURCE = Path(zm.__file__).parent
FOREIGN = (
    "numba",
    "PIL",
    "matplotlib",
    "rich",
    "click",
    "simplejpeg",
    "safetensors",
    "sklearn",
    "ml_dtypes",
    "torch",
    "jinja2",
)

# ---------------------------------------------------------------- names

PUBLIC = [
    "Exported",
    "Finding",
    "Findings",
    "FormatError",
    "GroupedNormalizer",
    "GroupedProfile",
    "Ledger",
    "MergeError",
    "Normalizer",
    "Pattern",
    "PatternError",
    "Profile",
    "SkippedWarning",
    "SourceError",
    "Study",
    "UnitError",
    "WeightedProfile",
    "ZeromeanError",
    "ZeromeanWarning",
    "__version__",
    "check",
    "export",
    "fold",
    "import_normalizer",
    "load",
    "max_abs",
    "mean_normalize",
    "measure",
    "min_max",
    "per_sample",
    "report",
    "robust",
    "standardize",
    "study",
    "whiten",
    "zero_mean",
]


def test_public_names():
    """What may be relied on. Adding a name is a decision; losing one breaks somebody."""
    assert sorted(zm.__all__) == PUBLIC
    assert sorted(zm.__all__) == dir(zm)
    for name in zm.__all__:
        assert getattr(zm, name) is not None
    assert {name for name in PUBLIC if name != "__version__"} == set(zm._HOME)


def test_unknown_names_are_attribute_errors():
    with pytest.raises(AttributeError, match="module 'zeromean' has no attribute 'standardise'"):
        _ = zm.standardise


def test_version_has_three_numbers():
    assert re.fullmatch(r"\d+\.\d+\.\d+", zm.__version__)


def modules():
    """Name below the package, and parsed source, of every module."""
    for path in sorted(SOURCE.rglob("*.py")):
        parts = path.relative_to(SOURCE).with_suffix("").parts
        name = ".".join(p for p in parts if p != "__init__")
        yield name, ast.parse(path.read_text(encoding="utf-8"))


def test_no_module_bears_the_name_of_a_public_function():
    """Else `zm.measure` would turn into a module once somebody imports it."""
    functions = {name for name in zm.__all__ if inspect.isfunction(getattr(zm, name))}
    assert functions == {name for name in PUBLIC if name[0].islower()}
    assert not functions & {name.split(".")[0] for name, _ in modules()}


# ---------------------------------------------------------------- errors


def test_error_tree():
    """Each error is what its name says, and the built-in that people catch."""
    tree = {
        zm.PatternError: ValueError,
        zm.MergeError: ValueError,
        zm.SourceError: OSError,
        zm.FormatError: ValueError,
        zm.UnitError: ValueError,
    }
    for error, builtin in tree.items():
        assert issubclass(error, zm.ZeromeanError)
        assert issubclass(error, builtin)
    assert issubclass(zm.SkippedWarning, zm.ZeromeanWarning)
    assert issubclass(zm.ZeromeanWarning, UserWarning)


# ---------------------------------------------------------------- imports


def run(code):
    """Run code in a fresh interpreter; return what it prints."""
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.split()


LOADED = f"import sys; print(*[m for m in {FOREIGN!r} if m in sys.modules])"


def test_import_loads_nothing_foreign():
    assert run(f"import zeromean; {LOADED}") == []
    assert run("import zeromean, sys; print('numpy' in sys.modules)") == ["False"]


def test_every_public_name_can_be_had_without_anything_foreign():
    assert run(f"import zeromean as zm; [getattr(zm, n) for n in zm.__all__]; {LOADED}") == []


def test_the_check_of_imports_can_fail():
    assert run(f"import PIL; {LOADED}") == ["PIL"]


def test_slim_machines_need_no_numba_to_load_merge_read_and_save(tmp_path):
    """Numba, Pillow and the rest are not there at all; and the bits are the same."""
    import numpy as np

    x = np.random.default_rng(3).normal(size=(40, 3))
    pictures = np.random.default_rng(3).integers(0, 256, (4, 5, 6, 3), dtype=np.uint8)
    zm.measure(x, quantiles=True).save(tmp_path / "floats.json")
    zm.measure(pictures, "n h w c -> c").save(tmp_path / "pictures.json")
    zm.standardize(zm.measure(pictures, "n h w c -> c")).save(tmp_path / "norm.json")
    np.save(tmp_path / "pictures.npy", pictures)
    np.save(tmp_path / "y.npy", zm.standardize(zm.measure(pictures, "n h w c -> c"))(pictures))
    absent = [name for name in FOREIGN if name != "safetensors"]
    code = f"""
import sys
for name in {absent!r}:
    sys.modules[name] = None
import pathlib
import numpy as np
import zeromean as zm
folder = pathlib.Path({str(tmp_path)!r})
for name in ("floats", "pictures"):
    profile = zm.load(folder / (name + ".json"))
    both = profile + profile
    assert both - profile == profile
    both.mean, both.std, both.var(1), both.min, both.max, both.count, both.nan_count
    both.quantile_bounds(0.5), repr(both), both._repr_html_()
    both.save(folder / "both.json")
    both.save(folder / "both.safetensors")
    assert zm.load(folder / "both.safetensors") == zm.load(folder / "both.json") == both
    zm.standardize(both).save(folder / "both.json")
norm = zm.load(folder / "norm.json")
pictures = np.load(folder / "pictures.npy")
assert (norm(pictures) == np.load(folder / "y.npy")).all()
assert (norm.invert(norm(pictures)) == pictures).all()
assert not [m for m in {absent!r} if sys.modules.get(m)]
print("done")
"""
    assert run(code) == ["done"]


# ---------------------------------------------------------------- floors

# Imports go down only. Modules of one floor do not know each other; those of one package do.
FLOORS = (
    {"errors", "figures", "quantiles", "rounding"},
    {"notation"},
    {"destination", "documents", "kernels", "pattern"},
    {"affine", "estimates", "mixing", "provenance", "sources", "statistics"},
    {"covariance_file", "frames", "masking", "profile_columns", "transforming"},
    {"lone_columns"},
    {"composition", "convergence", "drawing", "profile_file", "readouts", "tables", "tabular"},
    {"group_file", "group_tables", "reweighting"},
    {"normalizer_file", "profile", "refinement", "summary", "table_files"},
    {"gathering", "normalizer"},
    {"accumulation"},
    {"group_normalizer"},
    {"grouped"},
    {"partition"},
    {"engines", "loading"},
    {"execution"},
    {"ledger"},
    {"sampling"},
    {"measurement", "samples"},
    {"embedding", "first_layer", "outputs", "recipes"},
    {"graphs", "shard_folders", "torch", "whitening"},
    {"exporters", "importers"},
    {"diagnosis"},
    {"application", "progress"},
    {"cli_numbers", "cli_profiles", "reporting", "terminal"},
    {
        *("cli_apply", "cli_check", "cli_export", "cli_fold", "cli_import", "cli_measure"),
        *("cli_files", "cli_merge", "cli_report"),
        *("cli_study", "demonstration"),
    },
    {"cli", "sklearn"},
    {"__main__"},
)
FLOOR = {name: floor for floor, names in enumerate(FLOORS) for name in names}
#: Imports that go up, late and inside a function: a document becomes a profile; tensors are handed
#: to those who know them.
UPWARD = {("profile_file", "profile"), ("normalizer", "torch")}


def is_typing(node):
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"


def imported(tree):
    """All modules that a module imports, wherever; not those for type checkers."""
    waiting = list(tree.body)
    while waiting:
        node = waiting.pop()
        if is_typing(node):
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide where they go"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        waiting += ast.iter_child_nodes(node)


def edges(parsed):
    """(module, imported part of this package), parts named by their top level."""
    for name, tree in parsed:
        for target in imported(tree):
            parts = target.split(".")
            if parts[0] == "zeromean" and len(parts) > 1 and parts[1] in FLOOR:
                yield name.split(".")[0], parts[1]


def wrong(parsed):
    """Imports that do not go down."""
    return {(a, b) for a, b in edges(parsed) if a and a != b and FLOOR[b] >= FLOOR[a]}


def test_imports_go_down_only():
    parsed = list(modules())
    tops = {name.split(".")[0] for name, _ in parsed} - {""}
    assert tops == set(FLOOR), "a new module needs a floor"
    assert wrong(parsed) == UPWARD


def test_the_check_of_floors_can_fail():
    """Late, aliased and conditional imports are seen; those for type checkers are not."""
    upward = "def f():\n    if True:\n        from zeromean.profile import Profile as P\n"
    assert wrong([("pattern", ast.parse(upward))]) == {("pattern", "profile")}
    assert wrong([("pattern", ast.parse("from zeromean import cli"))]) == {("pattern", "cli")}
    assert wrong([("pattern", ast.parse("import zeromean.cli as c"))]) == {("pattern", "cli")}
    hidden = "if TYPE_CHECKING:\n    from zeromean.profile import Profile\n"
    assert wrong([("pattern", ast.parse(hidden))]) == set()
    assert wrong([("cli", ast.parse("from zeromean.profile import Profile"))]) == set()


# Each foreigner has its home; `late` says whether it may only be imported inside functions.
HOMES = {
    "PIL": (
        {
            *("exporters.timm", "reporting.pictures"),
            *("sources.decode", "sources.resizing", "sources.strictness"),
        },
        True,
    ),
    "simplejpeg": ({"sources.decode"}, True),
    "llvmlite": ({"kernels.compiling"}, False),
    "numba": (
        {"kernels.affine", "kernels.compiling", "kernels.floats", "kernels.integers"},
        False,
    ),
    "safetensors": ({"documents", "exporters", "outputs", "shard_folders", "torch"}, True),
    "matplotlib": ({"figures", "reporting.charts"}, True),
    "sklearn": ({"demonstration", "exporters", "importers", "sklearn"}, False),
    "scipy": ({"convergence", "sklearn"}, False),
    "ml_dtypes": ({"destination"}, True),
    "pandas": ({"frames"}, True),
    "polars": ({"frames"}, True),
    "pyarrow": (
        {
            *("convergence", "frames", "table_files"),
            *(f"sources.arrow_{part}" for part in "arrays columns files ipc parquet rows".split()),
            *("sources.delimited", "sources.tables"),
        },
        True,
    ),
    "torch": ({"exporters", "importers", "torch"}, False),
    "torchvision": ({"exporters", "importers"}, True),
    "timm": ({"exporters", "importers"}, True),
    "transformers": ({"exporters", "importers"}, True),
    "albumentations": ({"exporters"}, True),
    "h5py": ({"exporters.keras", "importers", "sources.hdf5"}, True),
    "keras": ({"exporters", "importers"}, True),
    "onnx": ({"diagnosis", "exporters", "graphs"}, True),
    "onnxruntime": ({"diagnosis", "exporters", "graphs"}, True),
    "openvino": ({"exporters"}, True),
    "cv2": ({"exporters"}, True),
    "rich": ({"cli", "progress", "summary"}, False),
    "threadpoolctl": ({"statistics.blas"}, True),
    "fsspec": ({"sources.stores"}, True),
    "hdf5plugin": ({"sources.hdf5"}, True),
    "cloudpickle": ({"sources.dask_arrays"}, True),
    "zarr": ({"sources.zarr"}, True),
    "dask": ({"engines", "sources.dask_arrays"}, True),
    "distributed": ({"engines"}, True),
    "loky": ({"engines"}, True),
    "mpi4py": ({"engines"}, True),
    "soundfile": ({"sources.audio"}, True),
    "tifffile": ({"sources.raster"}, True),
    "pydicom": ({"sources.dicom", "sources.dicom_header"}, True),
    "nibabel": ({"sources.nifti"}, True),
    "click": (
        {
            "cli",
            "cli_numbers",
            "terminal",
            *(
                f"cli_{v}"
                for v in "apply check export files fold import measure merge report study".split()
            ),
        },
        False,
    ),
    "jinja2": ({"reporting"}, True),
    "markupsafe": ({"reporting"}, True),
}


def test_foreigners_stay_in_their_files():
    allowed = sys.stdlib_module_names | {"zeromean", "numpy"} | set(HOMES)
    for name, tree in modules():
        for target in imported(tree):
            top = target.split(".")[0]
            assert top in allowed, (name, target)
            if top in HOMES:
                homes = HOMES[top][0]
                assert name in homes or name.split(".")[0] in homes, (name, target)


def test_heavy_foreigners_are_imported_inside_functions():
    for name, tree in modules():
        head = ast.Module([n for n in tree.body if isinstance(n, ast.Import | ast.ImportFrom)], [])
        for target in imported(head):
            top = target.split(".")[0]
            assert top not in HOMES or not HOMES[top][1], (name, target)


def test_modules_begin_with_their_sentence_and_stay_small():
    for name, tree in modules():
        text = ast.get_docstring(tree)
        assert text, name
        assert text.split("\n")[0].endswith((".", "?", ";", ",")), name


# ---------------------------------------------------------------- documentation

CLASSES = (
    zm.Profile,
    zm.Normalizer,
    zm.Pattern,
    zm.GroupedProfile,
    zm.GroupedNormalizer,
    zm.WeightedProfile,
)


def members(cls):
    """What a class and those of its bases that are ours define."""
    for base in cls.__mro__:
        if base.__module__.startswith("zeromean"):
            yield from vars(base).items()


def public_callables():
    """Every public function and method, with its name."""
    for name in PUBLIC:
        if name[0].islower():
            yield name, getattr(zm, name)
    for cls in CLASSES:
        for name, member in members(cls):
            function = getattr(member, "__func__", member)
            if (not name.startswith("_") or name == "__call__") and inspect.isfunction(function):
                yield f"{cls.__name__}.{name}", function


def parameters(function):
    names = list(inspect.signature(function).parameters.values())
    return [p for p in names if p.name not in ("self", "cls")]


@pytest.mark.parametrize(("name", "function"), list(public_callables()))
def test_parameters_are_documented(name, function):
    """Each parameter stands in a numpydoc section, under its own name."""
    text = inspect.getdoc(function)
    assert text, name
    names = parameters(function)
    if names:
        assert "Parameters\n----------" in text, name
        section = text.split("Parameters\n----------\n")[1].split("\n\n")[0]
        for parameter in names:
            star = {parameter.VAR_KEYWORD: r"\*\*", parameter.VAR_POSITIONAL: r"\*"}
            spelled = star.get(parameter.kind, "") + parameter.name
            assert re.search(rf"(^|, ){spelled}\b", section, re.MULTILINE), (name, parameter.name)


@pytest.mark.parametrize("name", [n for n in PUBLIC if n != "__version__"])
def test_everything_public_has_a_docstring(name):
    assert inspect.getdoc(getattr(zm, name))


@pytest.mark.parametrize("cls", CLASSES)
def test_properties_and_attributes_are_documented(cls):
    text = inspect.getdoc(cls)
    for attribute in getattr(cls, "__dataclass_fields__", ()):
        if cls is not zm.Pattern or attribute != "sizes":
            assert re.search(rf"^{attribute}\b|, {attribute}\b", text, re.MULTILINE), attribute
    for name, member in members(cls):
        if isinstance(member, property) or type(member).__name__ == "cached_property":
            assert name.startswith("_") or member.__doc__, name


def test_functions_show_an_example_that_runs():
    """Doctests run with the suite; here only that they are there."""
    for thing in (zm.measure, zm.zero_mean, zm.Pattern, zm.Profile, zm.Normalizer, zm):
        assert ">>> " in inspect.getdoc(thing), thing
