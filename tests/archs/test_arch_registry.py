from __future__ import annotations

import re

import pytest

from fpnas.archs import ARCH_REGISTRY, Architecture, get_arch
from fpnas.errors import ConfigError, UnknownNameError, UserError


def test_by_name() -> None:
    assert get_arch("fbnetv2_f1").name == "fbnetv2_f1"


@pytest.mark.parametrize("as_type", [str, lambda path: path])
def test_by_file(tmp_path, as_type) -> None:
    arch = get_arch("fbnetv2_f1").with_num_classes(7)
    arch.save(tmp_path / "mine.yaml")
    assert get_arch(as_type(tmp_path / "mine.yaml")) == arch


def test_unknown_name() -> None:
    with pytest.raises(
        UnknownNameError, match=r"'fbnetv2_f5'.*Did you mean 'fbnetv2_f\d'.*ends in .yaml"
    ):
        get_arch("fbnetv2_f5")


def test_missing_file(tmp_path) -> None:
    path = tmp_path / "none.yaml"
    with pytest.raises(ConfigError, match=re.escape(str(path))):
        get_arch(path)


def test_own_architecture() -> None:
    def core_registry_net() -> Architecture:
        return get_arch("fbnetv2_f2")

    ARCH_REGISTRY.register(core_registry_net)
    assert get_arch("core_registry_net") == get_arch("fbnetv2_f2")
    with pytest.raises(UserError, match="already has 'core_registry_net'"):
        ARCH_REGISTRY.register(core_registry_net)
