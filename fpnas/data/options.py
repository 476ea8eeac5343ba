"""Check of the values under cfg.DATA before any image is touched."""

from __future__ import annotations

from collections.abc import Sequence

from fpnas.config import CfgNode
from fpnas.errors import ConfigError, did_you_mean

CACHE_MODES = ("auto", "always", "never")
CROPS = ("resized", "pad", "none")
INTERPOLATIONS = ("bilinear", "bicubic")
POLICIES = ("", "autoaugment-imagenet", "autoaugment-cifar10", "randaugment", "trivialaugment")


def check_data_config(cfg: CfgNode) -> None:
    """Raise ConfigError, which names the key, for the first value under cfg.DATA of no use."""
    data, augment = cfg.DATA, cfg.DATA.AUGMENT
    _check_name("DATA.CACHE", data.CACHE, CACHE_MODES)
    _check_name("DATA.INTERPOLATION", data.INTERPOLATION, INTERPOLATIONS)
    _check_name("DATA.AUGMENT.CROP", augment.CROP, CROPS)
    _check_name("DATA.AUGMENT.POLICY", augment.POLICY, POLICIES)
    _check("DATA.INPUT_SIZE", data.INPUT_SIZE, data.INPUT_SIZE >= 1, "at least 1")
    _check("DATA.CROP_RATIO", data.CROP_RATIO, 0 < data.CROP_RATIO <= 1, "above 0, at most 1")
    _check("DATA.CACHE_LIMIT", data.CACHE_LIMIT, data.CACHE_LIMIT >= 0, "at least 0")
    _check("DATA.NUM_WORKERS", data.NUM_WORKERS, data.NUM_WORKERS >= 0, "at least 0")
    _check("DATA.HOLD_OUT", data.HOLD_OUT, 0 < data.HOLD_OUT < 1, "above 0, below 1")
    num_classes = data.NUM_RANDOM_CLASSES
    _check("DATA.NUM_RANDOM_CLASSES", num_classes, num_classes >= 0, "at least 0")
    _check("DATA.MEAN", data.MEAN, _numbers(data.MEAN, 3), "3 numbers")
    positive = _numbers(data.STD, 3) and min(data.STD) > 0
    _check("DATA.STD", data.STD, positive, "3 numbers above 0")
    _check("DATA.AUGMENT.PAD", augment.PAD, augment.PAD >= 0, "at least 0")
    _check("DATA.AUGMENT.HFLIP", augment.HFLIP, 0 <= augment.HFLIP <= 1, "0 to 1")
    _check("DATA.AUGMENT.ERASE", augment.ERASE, 0 <= augment.ERASE <= 1, "0 to 1")
    ordered = _numbers(augment.SCALE, 2) and 0 < augment.SCALE[0] <= augment.SCALE[1] <= 1
    _check("DATA.AUGMENT.SCALE", augment.SCALE, ordered, "(low, high) with 0 < low <= high <= 1")


def _check(key: str, value: object, is_valid: bool, valid: str) -> None:
    if not is_valid:
        raise ConfigError(f"{key} is {value!r}; valid: {valid}.")


def _check_name(key: str, value: str, names: Sequence[str]) -> None:
    hint = did_you_mean(value, names)
    _check(key, value, value in names, ", ".join(repr(name) for name in names) + hint)


def _numbers(values: Sequence[object], count: int) -> bool:
    return len(values) == count and all(
        isinstance(value, (int, float)) and not isinstance(value, bool) for value in values
    )
