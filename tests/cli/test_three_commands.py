"""From a folder of photos to a file for a phone: each command prints the next."""

from __future__ import annotations

import shlex

from colours import save_colour
from small_network import save_network

from fpnas.cli.main import main
from fpnas.training import load_trained

SHORT = (
    *("SOLVER.EPOCHS", "2", "SOLVER.BATCH_SIZE", "8", "DATA.NUM_WORKERS", "0"),
    *("LOG.TENSORBOARD", "False"),
)


def next_command(capsys):
    """What was printed, as arguments; without the name of the program."""
    printed = capsys.readouterr().out.splitlines()
    program, *args = shlex.split(printed[printed.index("Next:") + 1])
    assert program == "fpnas"
    return args


def test_each_of_three_commands_prints_the_next(tmp_path, capsys):
    photos = tmp_path / "my photos"
    for number in range(12):
        for name in ("red", "green"):
            size = (20 + number, 24)
            save_colour(photos / "train" / name / f"{number}.png", name, size)
    network = save_network(tmp_path, ("cat", "dog"))
    search = ["search", "--model", str(network), "DATA.ROOT", str(photos)]
    search += ["SEARCH.TARGET", "40e3", "OUTPUT_DIR", str(tmp_path / "out"), *SHORT]
    search += ["SEARCH.FULL_EPOCHS", "1", "SEARCH.WARMUP_EPOCHS", "1", "SEARCH.VAL_BATCH_SIZE", "3"]
    assert main(search) == 0
    found = load_trained(tmp_path / "out" / "network.pth")
    assert found.description.classes == ("green", "red")
    assert found.description.preprocessing.crop_ratio == 0.9

    train = next_command(capsys)
    assert train[:3] == ["train", "--model", str(tmp_path / "out" / "network.pth")]
    assert main([*train, *SHORT]) == 0
    trained = load_trained(tmp_path / "out-trained" / "model_final.pth")
    assert trained.model.arch == found.model.arch

    export = next_command(capsys)
    assert main(export) == 0
    assert (tmp_path / "out-trained" / "export" / "model.int8.onnx").stat().st_size > 0
    assert "onnx-int8" in capsys.readouterr().out
