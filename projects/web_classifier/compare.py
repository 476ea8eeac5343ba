"""Compare the page, in headless Chromium, with ONNX Runtime in Python on the same file and photos.

python compare.py --photos DIR --count 40

Prints how often the two name the same class first, and the time of an inference in the browser.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import onnxruntime
import torch

from fpnas.data import Preprocessing
from fpnas.data.decode import decode_image
from fpnas.data.image_folder import image_paths

PROJECT = Path(__file__).resolve().parent


def choose_photos(folder: Path, count: int) -> list[Path]:
    """Up to ``count`` images from anywhere below ``folder``, spread over it."""
    found = [Path(name) for name in image_paths(folder)]
    return found[:: max(1, len(found) // count)][:count]


def classify_in_browser(
    folder: Path, photos: Sequence[Path], *options: str
) -> list[dict[str, Any]]:
    """What classify.mjs says about the page in ``folder``: {photo, status, classes, ...} each."""
    script = PROJECT / "classify.mjs"
    with serve(folder) as url:
        command = ["node", str(script), url, *map(str, photos), *options]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=600, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def classify_in_python(model_dir: Path, photos: Sequence[Path]) -> list[dict[str, Any]]:
    """The same of the same model file, with the preprocessing of the training."""
    about = json.loads((model_dir / "model.json").read_text())
    preprocessing = Preprocessing.from_dict(about["preprocessing"])
    session = onnxruntime.InferenceSession(str(model_dir / about["file"]))

    def classify(photo: Path) -> dict[str, Any]:
        pixels = preprocessing.resize_and_crop(decode_image(str(photo)))
        (logits,) = session.run(["logits"], {"images": pixels.permute(1, 2, 0)[None].numpy()})
        values, indices = torch.from_numpy(logits)[0].softmax(0).topk(min(5, logits.shape[1]))
        classes = [about["classes"][index] for index in indices]
        return {"photo": str(photo), "classes": classes, "percent": (100 * values).tolist()}

    return [classify(photo) for photo in photos]


@contextmanager
def serve(folder: Path) -> Iterator[str]:
    """The URL of ``folder``, served as 'python -m http.server' does."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_QuietHandler, directory=folder)) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join()


class _QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass


def main() -> None:
    """Print the comparison."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--photos", type=Path, required=True, metavar="DIR")
    parser.add_argument("--count", type=int, default=40, help="photos, spread over DIR")
    args = parser.parse_args()
    photos = choose_photos(args.photos, args.count)

    browser = classify_in_browser(PROJECT, photos)
    python = classify_in_python(PROJECT / "model", photos)
    pairs = list(zip(browser, python, strict=True))
    same = [ours["classes"][0] == theirs["classes"][0] for ours, theirs in pairs]
    difference = [abs(ours["percent"][0] - theirs["percent"][0]) for ours, theirs in pairs]
    ms = sorted(result["ms"] for result in browser)
    for (ours, theirs), equal in zip(pairs, same, strict=True):
        if not equal:
            print(f"{Path(ours['photo']).name}: browser {ours['classes'][0]}", end=" ")
            print(f"({ours['percent'][0]:.1f} %), Python {theirs['classes'][0]}", end=" ")
            print(f"({theirs['percent'][0]:.1f} %)")
    print(f"same class first: {sum(same)} of {len(same)} photos")
    print(
        f"difference of the highest probability: {statistics.median(difference):.1f} points, median"
    )
    print(
        f"inference in the browser: {statistics.median(ms):.1f} ms median, {ms[0]:.1f} ms fastest"
    )


if __name__ == "__main__":
    main()
