"""Where the shipped configs lie, in a checkout and in an installed package."""

from __future__ import annotations

from pathlib import Path

from fpnas.errors import ConfigError, check_known

_PACKAGE = Path(__file__).resolve().parents[1]


def config_folder() -> Path:
    """The folder of the shipped configs: ``fpnas/configs`` if installed, else the checkout's."""
    installed = _PACKAGE / "configs"
    return installed if installed.is_dir() else _PACKAGE.parent / "configs"


def list_configs() -> list[str]:
    """Names of all shipped configs, relative to :func:`config_folder`, sorted."""
    folder = config_folder()
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.yaml"))


def find_config(name: str | Path) -> Path:
    """The config file called ``name``: an existing path, or a shipped config.

    A shipped config is named relative to the configs folder, with or without a leading
    ``configs/``, so that ``configs/quick/train.yaml`` works outside a checkout, too.
    Raises ConfigError with the nearest shipped name if there is neither.
    """
    path = Path(name).expanduser()
    if path.is_file():
        return path
    if path.is_dir():
        raise ConfigError(f"Config file '{name}' is a folder; a YAML file is needed.")
    shipped_name = path.as_posix().removeprefix("./").removeprefix("configs/")
    check_known(
        shipped_name,
        list_configs(),
        f"Config file '{name}' does not exist, neither here nor among the shipped configs",
        ConfigError,
        listed="a file, or one that 'fpnas configs' lists",
    )
    return config_folder() / shipped_name
