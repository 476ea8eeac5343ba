"""Configuration: ``get_cfg()`` returns a fresh copy of the documented default tree."""

from fpnas.config.config import CfgNode, config_folder, find_config, list_configs


def get_cfg() -> CfgNode:
    """A copy of the default config, for ``merge_from_file`` and ``merge_from_list`` to change."""
    from fpnas.config.defaults import _C

    return _C.clone()


__all__ = ["CfgNode", "config_folder", "find_config", "get_cfg", "list_configs"]
