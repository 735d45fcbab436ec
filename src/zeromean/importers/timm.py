"""timm: `config.json` of a hub model, a `pretrained_cfg`, and what `resolve_data_config` gives.

Read in timm 1.0.31: its transforms end in `ToTensor` (8-bit pictures become 0..1) and
`Normalize(mean, std)`; `resolve_data_config` fills in ImageNet's numbers without saying so.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from zeromean.embedding import KEY
from zeromean.errors import FormatError
from zeromean.importers.found import Found, channels_of, pair, said

TITLE = "timm"
_MARKS = {
    "input_size",
    "crop_pct",
    "interpolation",
    "architecture",
    "first_conv",
    "test_input_size",
}


def is_config(config: Mapping[str, Any]) -> bool:
    """Whether a dictionary is one of timm's."""
    if isinstance(config.get("pretrained_cfg"), Mapping):
        return True
    return "mean" in config and "std" in config and bool(_MARKS & set(config))


def config_of(cfg: Any) -> dict[str, Any]:
    """A `PretrainedCfg` object, or that of a model, as a dictionary."""
    cfg = getattr(cfg, "pretrained_cfg", cfg)
    if isinstance(cfg, Mapping):
        return dict(cfg)
    return {name: getattr(cfg, name) for name in ("mean", "std", "input_size")}


def read(config: Mapping[str, Any], place: str) -> Found:
    """What a configuration says.

    Raises
    ------
    FormatError
        Without mean and std, or when they are not for the channels of the input.
    """
    document = config.get(KEY)
    inner = config.get("pretrained_cfg")
    if isinstance(inner, Mapping):
        config, document = inner, inner.get(KEY, document)
    shift, scale = pair(
        said(config, "mean", place), said(config, "std", place), ("mean", "std"), place
    )
    size = config.get("input_size")
    if shift.ndim and size is not None and shift.size not in (1, size[0]):
        raise FormatError(
            f"{place}: its input has {size[0]} channels, and 'mean' holds {shift.size} numbers "
            "(ImageNet's, unless somebody measured): say mean and std for all channels"
        )
    one_for_all = not shift.ndim or (shift.size == 1 and size is not None and size[0] > 1)
    return Found(
        title=TITLE,
        place=place,
        shift=shift.reshape(()) if one_for_all else shift,
        scale=scale.reshape(()) if one_for_all else scale,
        unit=None,
        top=1,
        usual_range=(0, 255),
        pattern="n h w c ->" if one_for_all else "n h w c -> c",
        channels="RGB" if one_for_all and size and size[0] == 3 else channels_of(shift.size, "RGB"),
        feeds_them=True,
        document=document,
    )
