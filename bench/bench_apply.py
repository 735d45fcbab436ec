"""Measures normalizing side by side with its peers, and writes its section of the page.

    python bench/bench_apply.py                         # everything, to the terminal
    python bench/bench_apply.py -o docs/benchmarks.md   # and its section
    python bench/bench_apply.py --only a,c              # some parts
    python bench/bench_apply.py --tiny                  # a few seconds, for a test

Needs ``pip install "zeromean[bench]"`` and a quiet machine; peers that are not installed are
left out by name.
"""

from __future__ import annotations

from script import Script

_PARTS = {
    "a": ("applying", "run_columns"),
    "b": ("applying", "run_inverse"),
    "c": ("applying", "run_pictures"),
    "d": ("applying", "run_pixels"),
}

_PREFACE = """## Normalizing

Made by `python bench/bench_apply.py{options}` in {minutes} on {machine}.
{software}.
{trial}
All contestants of a table ran in one process in interleaved rounds, after one round to warm up,
each with as many threads as there are cores where it knows threads at all. Each figure is the
median over the rounds, with the smallest and largest in brackets; ratios are taken within each
round. Every result of every round was compared with the formula in float64: the last column says
how far off it was at most, in units of the normalized data, and in brackets what its arithmetic
allows; further off would have stopped the run. Ours must give the formula's bits.
"""

_SCRIPT = Script("bench_apply", _PREFACE, "Normalizing must reach", _PARTS)
main = _SCRIPT.command((__doc__ or "").splitlines()[0])

if __name__ == "__main__":
    main()
