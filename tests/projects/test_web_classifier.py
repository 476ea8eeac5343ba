"""The web page: what it is told about a model, and what it shows in a real browser."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from PIL import Image

from fpnas.archs import Architecture
from fpnas.blocks import ConvSpec, HeadSpec, MBConvSpec
from fpnas.data import Preprocessing
from fpnas.errors import UserError
from fpnas.export import export_model
from fpnas.modeling import SearchedNet

PROJECT = Path(__file__).parents[2] / "projects" / "web_classifier"
PAGE_FILES = ("index.html", "app.js", "classifier.js", "resize.js", "style.css")
COLOURS = {"blue": (0, 0, 255), "green": (0, 255, 0), "red": (255, 0, 0)}
CLASSES = ["red", "green", "blue"]
PREPROCESSING = Preprocessing(16, 0.8, "bilinear", (0.5,) * 3, (0.25,) * 3)

CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
needs_browser = pytest.mark.skipif(
    not (shutil.which("node") and shutil.which(CHROMIUM) and (PROJECT / "node_modules").is_dir()),
    reason="needs Node, Chromium and 'npm install' in projects/web_classifier",
)


def load(name: str):
    spec = importlib.util.spec_from_file_location(name, PROJECT / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def colour_net() -> SearchedNet:
    """A network whose logits are the mean red, green and blue."""
    arch = Architecture(
        name="colours",
        input_size=16,
        stem=ConvSpec(8, kernel=1, act="relu"),
        stages=((MBConvSpec(8, expansion=1, kernel=1),),),
        head=HeadSpec(8, num_classes=len(CLASSES), act="relu"),
    )
    net = SearchedNet(arch).eval()
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, torch.nn.Conv2d):
                torch.nn.init.dirac_(module.weight, groups=module.groups)
        net.head.fc.weight.copy_(torch.eye(len(CLASSES), 8))
        net.head.fc.bias.zero_()
    return net


def export(folder: Path, bake: bool) -> Path:
    pixels = [torch.tensor(rgb, dtype=torch.uint8) for rgb in COLOURS.values()]
    images = torch.stack(
        [PREPROCESSING.normalize(p[:, None, None].expand(3, 16, 16)) for p in pixels]
    )
    (report,) = export_model(
        colour_net(),
        folder,
        ["onnx"],
        input_size=16,
        images=images,
        metadata={"classes": CLASSES, "preprocessing": PREPROCESSING.to_dict()},
        warmup=0,
        runs=1,
        bake=PREPROCESSING if bake else None,
    )
    assert report.status == "ok", report.message
    return folder / "model.onnx"


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory) -> Path:
    """What prepare.py makes of an exported file."""
    folder = tmp_path_factory.mktemp("web")
    load("prepare").install(export(folder / "export", bake=True), folder / "model")
    return folder / "model"


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A copy of the page, still without a model."""
    for name in PAGE_FILES:
        shutil.copy(PROJECT / name, tmp_path)
    (tmp_path / "node_modules").symlink_to(PROJECT / "node_modules")
    return tmp_path


def test_the_page_is_told_what_the_file_says(model_dir):
    assert json.loads((model_dir / "model.json").read_text()) == {
        "name": "colours",
        "file": "model.onnx",
        "classes": CLASSES,
        "preprocessing": PREPROCESSING.to_dict(),
    }


def test_a_file_that_takes_no_pixels_is_refused(tmp_path):
    file = export(tmp_path / "export", bake=False)
    with pytest.raises(UserError, match=r"float32.*--bake-preprocess"):
        load("prepare").install(file, tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r"none\.onnx"):
        load("prepare").install(tmp_path / "none.onnx", tmp_path / "model")


def test_photos_are_compared_however_their_names_end(tmp_path):
    for name in ("IMG_1.JPG", "a.jpg", "b.png", "notes.txt"):
        (tmp_path / name).touch()
    chosen = load("compare").choose_photos(tmp_path, 40)
    assert [photo.name for photo in chosen] == ["IMG_1.JPG", "a.jpg", "b.png"]
    assert len(load("compare").choose_photos(tmp_path, 2)) == 2


def test_the_page_names_no_host():
    """Everything comes from the server of the page: it works in a local network, too."""
    for name in (*PAGE_FILES, "package.json"):
        assert "://" not in (PROJECT / name).read_text(), name


RESIZE_SCRIPT = """
import { readFileSync, writeFileSync } from "node:fs";
import { resizeAndCrop } from "%s";
const [file, width, height, side, target, interpolation] = process.argv.slice(1);
const image = { data: readFileSync(file), width: +width, height: +height };
writeFileSync(file, resizeAndCrop(image, +side, +target, interpolation));
"""


@pytest.mark.skipif(not shutil.which("node"), reason="needs Node")
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("size", [(97, 64), (30, 43), (20, 20), (16, 16)])
def test_the_page_resizes_as_in_training(tmp_path, size, interpolation):
    width, height = size
    preprocessing = Preprocessing(16, 0.8, interpolation, (0.5,) * 3, (0.5,) * 3)
    generator = torch.Generator().manual_seed(width)
    image = torch.randint(256, (4, height, width), generator=generator, dtype=torch.uint8)
    expected = preprocessing.resize_and_crop(image[:3]).permute(1, 2, 0)

    file = tmp_path / "pixels"
    file.write_bytes(image.permute(1, 2, 0).numpy().tobytes())
    target = 16 if size == (16, 16) else preprocessing.resize_to
    script = RESIZE_SCRIPT % (PROJECT / "resize.js").as_uri()
    command = ["node", "--input-type=module", "--eval", script]
    subprocess.run(
        [*command, *map(str, (file, width, height, 16, target, interpolation))], check=True
    )

    found = torch.frombuffer(bytearray(file.read_bytes()), dtype=torch.uint8).reshape(16, 16, 3)
    difference = (found.int() - expected.int()).abs()
    assert difference.max() <= 1  # torchvision computes with integers
    assert difference.float().mean() < 0.05


@needs_browser
def test_browser_and_python_agree(site, model_dir, tmp_path):
    (site / "model").symlink_to(model_dir)
    photos = []
    for name, colour in COLOURS.items():
        # Only the centre counts: white left and right of it is cut off.
        photo = Image.new("RGB", (120, 40), "white")
        photo.paste(colour, (38, 0, 82, 40))
        photos.append(tmp_path / f"{name}.png")
        photo.save(photos[-1])
    text = tmp_path / "text.jpg"
    text.write_text("no picture")

    compare = load("compare")
    screenshot = tmp_path / "page.png"
    options = ("--screenshot", str(screenshot))
    broken, *browser = compare.classify_in_browser(site, [text, *photos], *options)
    python = compare.classify_in_python(model_dir, photos)

    assert "text.jpg is no picture" in broken["status"]
    assert broken["classes"] == []
    for name, ours, theirs in zip(COLOURS, browser, python, strict=True):
        assert ours["classes"][0] == theirs["classes"][0] == name
        assert ours["percent"] == pytest.approx(theirs["percent"], abs=0.5)
        assert ours["ms"] >= 0
    with Image.open(screenshot) as image:
        assert image.width == 2 * 375  # nothing sticks out at the width of a phone


@needs_browser
def test_a_page_without_a_model_says_what_to_do(site, capfd):
    with pytest.raises(subprocess.CalledProcessError):
        load("compare").classify_in_browser(site, [])
    assert "Has prepare.py written the folder model/?" in capfd.readouterr().err
