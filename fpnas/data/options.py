"""Check of the values under cfg.DATA before any image is touched."""

from __future__ import annotations

from collections.abc import Sequence

from fpnas.config import CfgNode
from fpnas.config.checks import check_name, check_value

CACHE_MODES = ("auto", "always", "never")
CROPS = ("resized", "pad", "none")
INTERPOLATIONS = ("bilinear", "bicubic")
POLICIES = ("", "autoaugment-imagenet", "autoaugment-cifar10", "randaugment", "trivialaugment")


def check_data_config(cfg: CfgNode) -> None:
    """Raise ConfigError, which names the key, for the first value under cfg.DATA of no use."""
    data, augment = cfg.DATA, cfg.DATA.AUGMENT
    check_name("DATA.CACHE", data.CACHE, CACHE_MODES)
    check_name("DATA.INTERPOLATION", data.INTERPOLATION, INTERPOLATIONS)
    check_name("DATA.AUGMENT.CROP", augment.CROP, CROPS)
    check_name("DATA.AUGMENT.POLICY", augment.POLICY, POLICIES)
    check_value("DATA.INPUT_SIZE", data.INPUT_SIZE, data.INPUT_SIZE >= 1, "at least 1")
    check_value("DATA.CROP_RATIO", data.CROP_RATIO, 0 < data.CROP_RATIO <= 1, "above 0, at most 1")
    check_value("DATA.CACHE_LIMIT", data.CACHE_LIMIT, data.CACHE_LIMIT >= 0, "at least 0")
    check_value("DATA.NUM_WORKERS", data.NUM_WORKERS, data.NUM_WORKERS >= 0, "at least 0")
    check_value("DATA.HOLD_OUT", data.HOLD_OUT, 0 < data.HOLD_OUT < 1, "above 0, below 1")
    num_classes = data.NUM_RANDOM_CLASSES
    check_value("DATA.NUM_RANDOM_CLASSES", num_classes, num_classes >= 0, "at least 0")
    check_value("DATA.MEAN", data.MEAN, _numbers(data.MEAN, 3), "3 numbers")
    positive = _numbers(data.STD, 3) and min(data.STD) > 0
    check_value("DATA.STD", data.STD, positive, "3 numbers above 0")
    check_value("DATA.AUGMENT.PAD", augment.PAD, augment.PAD >= 0, "at least 0")
    check_value("DATA.AUGMENT.HFLIP", augment.HFLIP, 0 <= augment.HFLIP <= 1, "0 to 1")
    check_value("DATA.AUGMENT.COLOR", augment.COLOR, 0 <= augment.COLOR <= 1, "0 to 1")
    check_value("DATA.AUGMENT.ERASE", augment.ERASE, 0 <= augment.ERASE <= 1, "0 to 1")
    ordered = _numbers(augment.SCALE, 2) and 0 < augment.SCALE[0] <= augment.SCALE[1] <= 1
    check_value(
        "DATA.AUGMENT.SCALE", augment.SCALE, ordered, "(low, high) with 0 < low <= high <= 1"
    )


def _numbers(values: Sequence[object], count: int) -> bool:
    return len(values) == count and all(
        isinstance(value, (int, float)) and not isinstance(value, bool) for value in values
    )
