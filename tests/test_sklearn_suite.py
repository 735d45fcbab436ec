"""Scikit-learn's own tests of its scalers, run against ours of the same names."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import zeromean

pytest.importorskip("sklearn", reason='pip install "zeromean[sklearn]"')
pytest.importorskip("sklearn.preprocessing.tests.test_data", reason="installed without its tests")

_CLASSES = ("StandardScaler", "MinMaxScaler", "MaxAbsScaler", "RobustScaler")

#: Puts our classes in the place of theirs before their tests are imported, keeps the tests whose
#: code or parameters name one of them, and prints how they ended.
_RUN = """
import collections, json, sys
import pytest
import sklearn.preprocessing as theirs
import zeromean.sklearn as ours

names, outcomes = set(sys.argv[1].split(",")), collections.Counter()
for name in names:
    setattr(theirs, name, getattr(ours, name))

def words(code):
    inner = [words(c) for c in code.co_consts if hasattr(c, "co_names")]
    return {*code.co_names, *code.co_freevars}.union(*inner)

def is_ours(value):
    many = value if isinstance(value, list | tuple) else [value]
    return any(type(v).__name__ in names or getattr(v, "__name__", "") in names for v in many)

class Watch:
    def pytest_collection_modifyitems(self, items):
        items[:] = [
            i for i in items
            if words(i.function.__code__) & names
            or (hasattr(i, "callspec") and any(map(is_ours, i.callspec.params.values())))
        ]
        for module in {i.module for i in items}:
            for name in names & set(vars(module)):
                assert getattr(module, name) is getattr(ours, name), (module, name)

    def pytest_runtest_logreport(self, report):
        if report.when == "call" or report.outcome != "passed":
            outcomes[report.outcome] += 1
            if report.failed:
                outcomes[report.nodeid] += 1

modules = ["sklearn.preprocessing.tests.test_data", "sklearn.preprocessing.tests.test_common"]
options = ["-p", "no:cacheprovider", "-q", "-W", "ignore", "--import-mode=importlib", "--pyargs"]
status = pytest.main([*options, *modules], plugins=[Watch()])
print()
print(json.dumps({"status": int(status), **outcomes}))
"""


def test_scikit_learns_own_tests_pass(tmp_path):
    """None fails; and they are many, so that the selection has not gone wrong."""
    ended = subprocess.run(
        [sys.executable, "-c", _RUN, ",".join(_CLASSES)],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(zeromean.__file__).parents[1])},
    )
    assert ended.returncode == 0, ended.stderr[-4000:]
    found = json.loads(ended.stdout.splitlines()[-1])
    assert found.pop("status") == 0, ended.stdout[-4000:] + ended.stderr[-2000:]
    assert set(found) <= {"passed", "skipped"}, found
    assert found["passed"] > 300
