"""The benchmark of channel orders, on a folder of noise."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from PIL import Image
from small_network import save_network

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import channel_order


def test_prints_a_row_for_each_order(tmp_path, capsys):
    weights = save_network(tmp_path, ("a", "b"))
    pixels = torch.randint(255, (16, 16, 3), generator=torch.Generator().manual_seed(0))
    for split in ("train", "val"):
        for name in ("a", "b"):
            folder = tmp_path / "photos" / split / name
            folder.mkdir(parents=True)
            for number in range(16):
                rolled = pixels.roll(number, 0).to(torch.uint8).numpy()
                Image.fromarray(rolled).save(folder / f"{number}.png")
    channel_order.main([str(tmp_path / "photos"), "--weights", str(weights)])
    printed = capsys.readouterr().out
    assert "100% of the FLOPs" in printed
    assert [line.split("  ")[0] for line in printed.splitlines()[2:]] == [
        "as they are",
        "by the size of weights",
        "by the change of the loss",
    ]
    whole = [line.split()[-4] for line in printed.splitlines()[2:]]
    assert len(set(whole)) == 1  # uncut, the order does not matter
