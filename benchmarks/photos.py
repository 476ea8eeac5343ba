"""A smaller network for a folder of photos: fpnas's search beside everything else one could do.

    python benchmarks/photos.py choose PHOTOS --output-dir out/photos --rows full
    python benchmarks/photos.py choose PHOTOS --output-dir out/photos --rows small-input thinned
    python benchmarks/photos.py final  PHOTOS --output-dir out/photos --rows full
    python benchmarks/photos.py final  PHOTOS --output-dir out/photos --rows small-input thinned
    python benchmarks/photos.py report PHOTOS --output-dir out/photos

PHOTOS holds train/ and test/, one folder a class in each. Row ``full`` fine-tunes a published
network. Every other row has a smaller one, at shares of its FLOPs, and trains it alike: the same
photos, recipe (quick/finetune.yaml) and epochs, and the network of ``full`` as the teacher.

    small-input        the whole network on smaller images
    thinned            every expansion cut to the same share, the most important channels stay
    random             the best of 10 random networks of the search space, before training
    tp-l1, tp-l2       torch-pruning (pip install torch-pruning timm), by the size of weights,
    tp-taylor          by gradients, all layers together,
    tp-taylor-recovery and with short trainings in between
    fastnas            of NVIDIA (pip install nvidia-modelopt torchprofile==0.0.4)
    found              network.pth of fpnas search: --found 50=out/search/network.pth
    fresh              an architecture with fresh weights: --fresh 25=out/search/architecture.yaml
    fresh-thinned, fresh-mobilenetv3    known architectures with fresh weights

Stage ``choose`` trains on 85 % of the training photos and tests on the others, to choose the
learning rate of each row, and what ``random`` and ``fastnas`` decide by held-out photos. Stage
``final`` trains on all training photos with that rate and tests on test/. Each stage has its own
teacher, so that no weights have seen the photos that judge: --teacher and --found are of the stage
at hand, and those of ``choose`` must come from OUTPUT_DIR/data/choose/train.

An interrupted run goes on where it stopped, and several processes may share the rows once ``full``
is done. ``report`` prints the table and writes results.json.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
from photos_lib.rows import all_rows
from photos_lib.study import CHOOSE, FINAL, FULL, Settings, Study
from photos_lib.table import report
from photos_lib.unit import Place
from units import claimed, stored

from fpnas.errors import UserError

_ROW_NAMES = list(all_rows({}, {}))


def choose(args: argparse.Namespace) -> None:
    """Train every row with every learning rate on a part of the training photos."""
    for place in places(args, CHOOSE):
        for lr in args.lrs:
            result = place.train(lr, seed=0)
            say(f"{place.name}, {place.percent} %, LR {lr:g}: {result['top1']:.2f} % held out")


def final(args: argparse.Namespace) -> None:
    """Train every row with its learning rate and several seeds."""
    for place in places(args, FINAL):
        lr = stored(
            place.folder / "lr.json", lambda p=place: p.study.best_lr(p.name, p.percent, args.lrs)
        )
        for seed in range(args.seeds):
            result = place.train(lr, seed)
            say(f"{place.name}, {place.percent} %, seed {seed}: {result['top1']:.2f} %")


def places(args: argparse.Namespace, stage: str) -> Iterator[Place]:
    """The rows of --rows at all their shares, each claimed while it is worked on."""
    study = open_study(args)
    study.check_settings()
    rows = all_rows(args.found, args.fresh)
    for name in args.rows:
        row = rows[name]
        if row.percents == ():
            raise UserError(f"Row {name} needs its files: --{name} 50=FILE.")
        for percent in args.percents if row.percents is None else row.percents:
            teacher = None if name == FULL else study.teacher(stage, args.teacher, args.lrs)
            place = Place(study, stage, name, row, percent, teacher)
            with claimed(place.folder) as mine:
                if not mine:
                    continue
                place.check_source()
                failure = place.failure()
                if failure:
                    say(f"{name}, {percent} %: {failure}")
                else:
                    yield place


def open_study(args: argparse.Namespace) -> Study:
    """The study in --output-dir."""
    settings = Settings(
        args.model,
        args.input_size,
        args.epochs,
        args.distill_weight,
        args.temperature,
        tuple(args.opts),
    )
    return Study(args.photos_root, args.output_dir, settings)


def say(text: str) -> None:
    print(text, flush=True)


COMMANDS: dict[str, Callable[[argparse.Namespace], None]] = {
    CHOOSE: choose,
    FINAL: final,
    "report": lambda args: report(args.output_dir, _ROW_NAMES),
}


class ByPercent(argparse.Action):
    """``50=FILE 25=FILE ...`` as a dict."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Sequence[str],
        option_string: str | None = None,
    ) -> None:
        files = {}
        for text in values:
            percent, _, file = text.partition("=")
            if not percent.isdecimal() or not file:
                parser.error(f"{option_string} takes PERCENT=FILE, such as 50=a.pth; not {text!r}")
            files[int(percent)] = file
        setattr(namespace, self.dest, files)


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("stage", choices=COMMANDS)
    parser.add_argument("photos_root", type=Path, metavar="PHOTOS")
    parser.add_argument("--output-dir", type=Path, required=True)
    parser.add_argument("--rows", nargs="+", choices=_ROW_NAMES, default=[FULL])
    parser.add_argument("--percents", nargs="+", type=int, default=[50, 25], help="of the FLOPs")
    parser.add_argument(
        "--lrs",
        nargs="+",
        type=float,
        default=[0.01, 0.02, 0.04],
        help="learning rates for 32 images a step; 'final' wants all of them tried",
    )
    parser.add_argument("--seeds", type=int, default=3, help="of stage final")
    parser.add_argument("--model", default="efficientnet_lite0", help="published network")
    parser.add_argument("--input-size", type=int, default=128, help="px")
    parser.add_argument("--epochs", type=int, default=0, help="0: as the recipe says")
    parser.add_argument("--distill-weight", type=float, default=0.5)
    parser.add_argument("--temperature", type=float, default=1.0)
    parser.add_argument("--teacher", type=Path, help="model_final.pth, in place of row full's")
    parser.add_argument("--found", nargs="+", action=ByPercent, default={}, metavar="PERCENT=FILE")
    parser.add_argument("--fresh", nargs="+", action=ByPercent, default={}, metavar="PERCENT=FILE")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--opts", nargs="+", default=[], metavar="KEY VALUE")
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    args = parser().parse_args(argv)
    torch.set_num_threads(args.threads)
    COMMANDS[args.stage](args)


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"photos: {error}")
