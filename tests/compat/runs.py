"""A search and a training so small that their files can be kept, and how ours were written.

    cd tests/compat; python runs.py

wrote the folder "written" with the code of commit 6b59d9a. It is kept, not written anew: the files
stand for those of users.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import torch

from fpnas.archs import ARCH_REGISTRY, Architecture
from fpnas.blocks import ConvSpec, HeadSpec
from fpnas.config import CfgNode, get_cfg
from fpnas.data import DATASET_REGISTRY, ImageSet, TensorImages
from fpnas.spaces import SPACE_REGISTRY, BlockGroup, NetworkSpace

WRITTEN = Path(__file__).parent / "written"
SIDE = 8


@SPACE_REGISTRY.register(name="compat")
def space() -> NetworkSpace:
    """16 architectures of about a thousand weights."""
    values = {"kernel": (0, 3), "splits": (0, 2), "expansion": (1.5, 3.0), "channels": (8, 16)}
    return NetworkSpace(
        "compat", SIDE, ConvSpec(8), [BlockGroup(values, repeats=1, stride=1)], HeadSpec(16, 3)
    )


@ARCH_REGISTRY.register(name="compat")
def arch() -> Architecture:
    """The largest of them."""
    choices = torch.tensor([len(variable.values) - 1 for variable in space().variables])
    return space().architecture(choices, "compat")


@DATASET_REGISTRY.register(name="compat")
def shades(cfg: CfgNode, split: str) -> ImageSet:
    """Three shades of noise, 16 images of each."""
    labels = torch.arange(48) % 3
    generator = torch.Generator().manual_seed(len(split))
    noise = torch.randint(60, (48, 3, SIDE, SIDE), generator=generator)
    images = (noise + 90 * labels[:, None, None, None]).to(torch.uint8)
    return TensorImages(images, labels, ["dark", "grey", "light"])


def search_cfg(output_dir: Path) -> CfgNode:
    """Four epochs of two steps."""
    cfg = _cfg(output_dir, SOLVER__EPOCHS=4, SEARCH__SPACE="compat", SEARCH__TARGET=1e5)
    cfg.merge_from_list(["SEARCH.WARMUP_EPOCHS", "1", "SEARCH.JOINT_EPOCH", "2"])
    cfg.merge_from_list(["SEARCH.VAL_BATCH_SIZE", "12", "SEARCH.BN_BATCHES", "2"])
    return cfg


def training_cfg(output_dir: Path) -> CfgNode:
    """Three epochs of four steps, with an average of the weights."""
    return _cfg(output_dir, SOLVER__EPOCHS=3, SOLVER__EMA_DECAY=0.9, MODEL__ARCH="compat")


def _cfg(output_dir: Path, **overrides: object) -> CfgNode:
    cfg = get_cfg()
    options = {
        "OUTPUT_DIR": output_dir,
        "DATA.NAME": "compat",
        "DATA.INPUT_SIZE": SIDE,
        "SOLVER.BATCH_SIZE": 12,
        "LOG.TENSORBOARD": False,
        **{name.replace("__", "."): value for name, value in overrides.items()},
    }
    for key, value in options.items():
        cfg.merge_from_list([key, str(value)])
    return cfg


def _keep(folder: Path, checkpoint: str) -> None:
    """Leave what a run that was interrupted at ``checkpoint`` has left."""
    results = ("search_result.pth", "network.pth", "architecture.yaml")
    kept = {checkpoint, "config.yaml", "metrics.json", *results}
    for file in folder.iterdir():
        if file.name not in kept:
            file.unlink()
    (folder / "last_checkpoint").write_text(checkpoint)


if __name__ == "__main__":
    from fpnas.search.run import run_search
    from fpnas.training import run_training

    shutil.rmtree(WRITTEN, ignore_errors=True)
    run_search(search_cfg(Path("written/search")))
    run_training(training_cfg(Path("written/training")))
    _keep(WRITTEN / "search", "model_0000006.pth")
    _keep(WRITTEN / "training", "model_0000008.pth")
