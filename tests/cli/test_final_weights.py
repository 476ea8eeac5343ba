"""The config of a fine-tuning names the weights that it started from, not its result."""

from __future__ import annotations

from pathlib import Path

import pytest

from fpnas.cli import main
from fpnas.config import get_cfg


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    """As a fine-tuning leaves it, but for the contents of its checkpoint."""
    folder = tmp_path / "out" / "ft"
    folder.mkdir(parents=True)
    cfg = get_cfg()
    cfg.OUTPUT_DIR, cfg.MODEL.WEIGHTS = str(folder), "zoo://fp_nas_c10_xs"
    (folder / "config.yaml").write_text(cfg.dump())
    (folder / "model_final.pth").write_bytes(b"damaged")
    return folder


@pytest.mark.parametrize("command", [["eval"], ["train", "--eval-only"], ["export"]])
@pytest.mark.parametrize("moved", [False, True])
def test_starting_weights_are_not_taken_for_the_result(
    run_folder, tmp_path, capsys, command, moved
):
    config = run_folder / "config.yaml"
    if moved:  # then its OUTPUT_DIR still leads to the result
        config = config.rename(tmp_path / "my.yaml")
    assert main([*command, "--config-file", str(config)]) == 2
    said = capsys.readouterr().err
    assert "'zoo://fp_nas_c10_xs'" in said
    assert f"MODEL.WEIGHTS {run_folder / 'model_final.pth'}" in said


@pytest.mark.parametrize("command", ["eval", "export"])
def test_weights_on_the_command_line_are_meant(run_folder, capsys, command):
    final = str(run_folder / "model_final.pth")
    argv = [command, "--config-file", str(run_folder / "config.yaml")]
    assert main([*argv, "MODEL.WEIGHTS", final]) == 2
    assert "is damaged" in capsys.readouterr().err  # so it was read
    (run_folder / "config.yaml").write_text(f"MODEL:\n  WEIGHTS: {final}\n")
    assert main(argv) == 2
    assert "is damaged" in capsys.readouterr().err
