"""Measures the estimators side by side with scikit-learn's, and writes its section of the page.

    python bench/bench_estimators.py                         # everything, to the terminal
    python bench/bench_estimators.py -o docs/benchmarks.md   # and its section
    python bench/bench_estimators.py --only a,c              # some parts
    python bench/bench_estimators.py --tiny                  # a few seconds, for a test

Needs ``pip install "zeromean[bench]"`` and a quiet machine.
"""

from __future__ import annotations

from script import Script

_PARTS = {
    "a": ("estimating", "run_fit"),
    "b": ("estimating", "run_batches"),
    "c": ("estimating", "run_transform"),
    "d": ("estimating", "run_others"),
}

_PREFACE = """## Estimators

Made by `python bench/bench_estimators.py{options}` in {minutes} on {machine}.
{software}.
{trial}
Ours and scikit-learn's ran in one process in interleaved rounds, after one round to warm up, with
their default threads: ours uses all cores for large arrays. Each figure is the median over the
rounds, with the smallest and largest in brackets; ratios are taken within each round. Every answer
of every round was checked: ours must be the exact numbers and the formula's bits, scikit-learn's
within what its arithmetic allows.
"""

_SCRIPT = Script("bench_estimators", _PREFACE, "Estimators must reach", _PARTS)
main = _SCRIPT.command((__doc__ or "").splitlines()[0])

if __name__ == "__main__":
    main()
