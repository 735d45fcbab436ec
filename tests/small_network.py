"""A network whose first convolution is 7 x 7 and padded with zeros, trained in seconds."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np

import zeromean as zm

CIFAR = Path(__file__).parents[2] / "shared" / "data" / "cifar10-train-5k"


def pictures(count=300, classes=5):
    """CIFAR-10 where it is there, else made pictures of as many classes; uint8."""
    folders = sorted(CIFAR.glob("*/"))[:classes] if CIFAR.is_dir() else []
    if folders:
        from PIL import Image

        files = [sorted(f.glob("*.png"))[: count // classes] for f in folders]
        return np.stack([np.asarray(Image.open(p).convert("RGB")) for fs in files for p in fs])
    rng = np.random.default_rng(0)
    means = rng.uniform(100, 150, (classes, 1, 1, 1, 3))
    made = means + 60 * rng.normal(size=(classes, count // classes, 32, 32, 3))
    return np.clip(made, 0, 255).astype(np.uint8).reshape(-1, 32, 32, 3)


@lru_cache
def trained():
    """The network, its normalizer, raw pictures (n, c, h, w) as uint8, and these normalized."""
    import torch
    from torch import nn

    with torch.random.fork_rng():
        torch.manual_seed(0)

        images, classes = pictures(), 5
        norm = zm.standardize(zm.measure(images, "n h w c -> c"))
        model = nn.Sequential(
            nn.Conv2d(3, 8, 7, padding=3),
            nn.ReLU(),
            nn.Conv2d(8, 8, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(8 * 16 * 16, classes),
        )
        x = norm.torch(layout="chw")(torch.from_numpy(images).movedim(-1, 1).contiguous())
        labels = torch.arange(classes).repeat_interleave(len(images) // classes)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
        generator = torch.Generator().manual_seed(0)
        for _ in range(4):
            for batch in torch.randperm(len(x), generator=generator).split(64):
                loss = nn.functional.cross_entropy(model(x[batch]), labels[batch])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
        return model.eval(), norm, torch.from_numpy(images[::4]).movedim(-1, 1).contiguous(), x[::4]
