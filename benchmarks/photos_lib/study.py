"""What all units of an output folder have in common: settings, photos, configs, the teacher."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmark_config import config_from
from fine_tuning import linked
from units import stored

from fpnas.config import CfgNode
from fpnas.errors import UserError
from fpnas.model_zoo import get_record, start_from

CHOOSE, FINAL = "choose", "final"
#: The row of the whole network, which teaches all others.
FULL, WHOLE = "full", 100
_RECIPE = "quick/finetune.yaml"
_SPLIT_SEED = 0


@dataclass(frozen=True)
class Settings:
    """What units must share to be comparable.

    Attributes:
        model: published network that is to become smaller.
        input_size: of the training and test images, px.
        epochs: of every training; 0: as the recipe says.
        distill_weight, temperature: SOLVER.DISTILL of all rows but "full".
        opts: further KEY VALUE pairs of every training.
    """

    model: str
    input_size: int
    epochs: int
    distill_weight: float
    temperature: float
    opts: Sequence[str] = ()


@dataclass(frozen=True)
class Study:
    """An output folder.

    Units lie in ``STAGE/ROW/PERCENT/lr-LR`` (choose) and ``STAGE/ROW/PERCENT/seed-SEED`` (final).

    Attributes:
        photos: holds train/ and test/, one folder a class in each.
        folder: the output folder.
        settings: of its units.
    """

    photos: Path
    folder: Path
    settings: Settings

    def check_settings(self) -> None:
        """Note the settings in the folder. Raises UserError if it has units with others."""
        own = json.loads(json.dumps({"photos": str(self.photos), **asdict(self.settings)}))
        noted = stored(self.folder / "settings.json", lambda: own)
        changed = [
            f"{key} {noted.get(key)!r}, now {own[key]!r}"
            for key in own
            if noted.get(key) != own[key]
        ]
        if changed:
            raise UserError(
                f"{self.folder} was begun with other settings: {'; '.join(changed)}. Choose "
                "another --output-dir."
            )

    def place(self, stage: str, row: str, percent: int) -> Path:
        """The folder of a row's units."""
        return self.folder / stage / row / str(percent)

    def data(self, stage: str) -> Path:
        """The folder of the stage's photos; it links to them.

        "choose": 85 % of the training photos in train/, the others in val/. "final": train/ and
        test/ as they are. Raises UserError if one of them is missing.
        """
        folder = self.folder / "data" / stage
        for split in ("train", "test"):
            if not (self.photos / split).is_dir():
                raise UserError(
                    f"{self.photos} has no folder {split}/ with a folder for each class."
                )
        if stage == CHOOSE:
            return linked(self.photos / "train", folder, _SPLIT_SEED, photos=0)
        folder.mkdir(parents=True, exist_ok=True)
        for split in ("train", "test"):
            link = folder / split
            if not link.is_symlink():
                link.symlink_to((self.photos / split).resolve())
        return folder

    def config(self, stage: str, folder: Path, lr: float | None = None, seed: int = 0) -> CfgNode:
        """The config of a training in ``folder``; ``lr`` None: the recipe's.

        Raises UserError on opts that this benchmark cannot use.
        """
        settings = self.settings
        cfg = config_from(_RECIPE)
        start_from(cfg, get_record(settings.model))
        own: dict[str, Any] = {
            "DATA.ROOT": self.data(stage),
            "DATA.INPUT_SIZE": settings.input_size,
            "OUTPUT_DIR": folder,
            "SEED": seed,
            "SOLVER.EPOCHS": settings.epochs,
            "SOLVER.DISTILL.WEIGHT": settings.distill_weight,
            "SOLVER.DISTILL.TEMPERATURE": settings.temperature,
            "TEST.PERIOD": 0,
            "LOG.TENSORBOARD": False,
        }
        cfg.merge_from_list([str(text) for pair in own.items() for text in pair])
        cfg.merge_from_list(list(settings.opts))
        if lr is not None:
            cfg.SOLVER.LR = lr
        if cfg.SOLVER.BODY_LR != 1:
            raise UserError("SOLVER.BODY_LR must be 1 here: pruned networks name no classifier.")
        return cfg

    def teacher(self, stage: str, given: Path | None, lrs: Sequence[float]) -> Path:
        """The file of the whole network that was fine-tuned on the stage's training photos.

        It stays the same for the stage: ``given``, or that of the row "full" with the best of
        ``lrs`` (choose) or its first seed (final). Raises UserError if there is none yet, or
        another is given.
        """
        note = self.folder / stage / "teacher.json"
        path = Path(stored(note, lambda: str((given or self._own_teacher(stage, lrs)).resolve())))
        if given is not None and given.resolve() != path:
            raise UserError(f"The teacher of stage '{stage}' in {self.folder} is {path}.")
        return path

    def _own_teacher(self, stage: str, lrs: Sequence[float]) -> Path:
        place = self.place(stage, FULL, WHOLE)
        unit = (
            place / "seed-0" if stage == FINAL else place / f"lr-{self.best_lr(FULL, WHOLE, lrs):g}"
        )
        if not (unit / "result.json").is_file():
            raise UserError(f"All rows learn from '{FULL}': run '{stage} --rows {FULL}' first.")
        return unit / "model_final.pth"

    def best_lr(self, row: str, percent: int, lrs: Sequence[float] = ()) -> float:
        """The learning rate of the best held-out accuracy; of equals that of the least loss.

        A single one of ``lrs`` is the best of them, tried or not. Raises UserError if one of
        several, or any if there are none, was not tried.
        """
        if len(lrs) == 1:
            return lrs[0]
        place = self.place(CHOOSE, row, percent)
        tried = [json.loads(file.read_text()) for file in sorted(place.glob("lr-*/result.json"))]
        missing = [f"{lr:g}" for lr in lrs if lr not in [one["lr"] for one in tried]]
        if missing or not tried:
            raise UserError(
                f"'{row}' at {percent} % was not trained with learning rate "
                f"{', '.join(missing) or 'any'}: run '{CHOOSE} --rows {row}' first."
            )
        return max(tried, key=lambda one: (one["top1"], -one["loss"]))["lr"]
