"""Part (d): how many files a sample takes, and how often its intervals hold."""

from __future__ import annotations

from rounds import Goal, Part, Spread, table
from sizes import Sizes
from within import simulate

_ASKED = (0.001, 0.002, 0.005)


def run_samples(sizes: Sizes) -> Part:
    """All of part (d)."""
    part = Part(f"(d) A random sample of {sizes.population:,} files, {sizes.trials:,} trials")
    rows = []
    for asked in _ASKED:
        seen = simulate("cifar", asked, sizes.trials, files=sizes.population)
        read, hit = 100 * seen.read, 100 * seen.coverage
        rows.append([f"{asked:g}", f"{read:.1f} %", f"{100 * seen.most:.1f} %", f"{hit:.1f} %"])
        if asked == 0.002:
            what = f"`--within {asked:g}`, {sizes.population:,} pictures like CIFAR's"
            part.goals += [
                Goal(f"{what}: files read", Spread.of([read]), 25, None, " %", at_most=True),
                Goal(f"{what}: all intervals hold", Spread.of([hit]), 95, None, " %"),
            ]
    part.text += [
        table(["within", "files read", "at most", "all intervals hold"], rows),
        "The population is made: means and stds of its pictures are distributed as CIFAR-10's are. "
        "Each trial reads it in another random order with the code that `measure` runs, and holds "
        "when every mean and std of all files lies in its interval. More populations, kind ones "
        "and cruel ones: [estimates.md](estimates.md).",
    ]
    return part
