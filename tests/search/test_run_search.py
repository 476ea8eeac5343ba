"""A whole search from a config: its files, its errors, and its resumption."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from fpnas.archs import Architecture
from fpnas.config import CfgNode, find_config, get_cfg, list_configs
from fpnas.data import DATASET_REGISTRY, ImageSet, TensorImages
from fpnas.engine import HookBase, Interrupted
from fpnas.errors import (
    BudgetError,
    CheckpointError,
    ConfigError,
    DataError,
    ResumeError,
    UserError,
)
from fpnas.modeling import SearchedNet, SuperNet
from fpnas.search import SearchResult, budget
from fpnas.search import run as search_run
from fpnas.search import setup as search_setup
from fpnas.search.length import with_search_length
from fpnas.search.methods import search_method
from fpnas.search.setup import check_search_config
from fpnas.spaces import NetworkSpace, get_space
from fpnas.training import load_trained
from fpnas.utils.checkpoint import load_weights

SIDE = 8


@DATASET_REGISTRY.register(name="test_run_search")
def shaded(cfg: CfgNode, split: str) -> ImageSet:
    """Three shades of noise, 16 images of each."""
    labels = torch.arange(48) % 3
    generator = torch.Generator().manual_seed(len(split))
    noise = torch.randint(60, (48, 3, SIDE, SIDE), generator=generator)
    images = (noise + 90 * labels[:, None, None, None]).to(torch.uint8)
    return TensorImages(images, labels, ["dark", "grey", "light"])


def make_cfg(output_dir: Path, **overrides: Any) -> CfgNode:
    """Four epochs of two steps on FP-NAS-Micro at 8 px; ``SEARCH__TARGET=1`` stands for a key."""
    cfg = get_cfg()
    options = {
        "OUTPUT_DIR": output_dir,
        "DATA.NAME": "test_run_search",
        "DATA.INPUT_SIZE": SIDE,
        "SOLVER.EPOCHS": 4,
        "SOLVER.BATCH_SIZE": 12,
        "SEARCH.VAL_BATCH_SIZE": 12,
        "SEARCH.TARGET": 5e5,
        "SEARCH.WARMUP_EPOCHS": 1,
        "SEARCH.JOINT_EPOCH": 2,
        "SEARCH.LAMBDA": 0.15,
        "SEARCH.BN_BATCHES": 2,
        "LOG.TENSORBOARD": False,
        **{name.replace("__", "."): value for name, value in overrides.items()},
    }
    for key, value in options.items():
        cfg.merge_from_list([key, str(value)])
    return cfg


def read_metrics(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "metrics.json").read_text().splitlines()]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, SearchResult]:
    folder = tmp_path_factory.mktemp("search")
    [result] = search_run.run_search(make_cfg(folder, SEARCH__ESTIMATOR="paper"))
    return folder, result


def test_result_is_within_budget_and_its_files_agree(finished: tuple[Path, SearchResult]) -> None:
    folder, result = finished
    arch = Architecture.load(folder / "architecture.yaml")
    assert arch.flops(SIDE) == result.cost <= 5e5
    assert arch.num_classes == 3
    assert SearchedNet(arch)(torch.zeros(2, 3, SIDE, SIDE)).shape == (2, 3)
    space = get_space("FP-NAS-Micro").at(SIDE, 3)
    loaded = SearchResult.load(folder / "search_result.pth", space)
    assert torch.equal(loaded.choices, result.choices)
    assert space.architecture(loaded.choices).stages == arch.stages
    assert "entropy" in (folder / "report.html").read_text().lower()


def test_found_network_comes_with_the_weights_of_the_supernet(
    finished: tuple[Path, SearchResult],
) -> None:
    folder, result = finished
    trained = load_trained(str(folder / "network.pth"))
    about = trained.description
    assert about.arch.stages == Architecture.load(folder / "architecture.yaml").stages
    assert len(about.classes) == 3 and about.preprocessing.input_size == SIDE
    supernet = SuperNet(get_space("FP-NAS-Micro").at(SIDE, 3), 3, get_cfg().SEARCH.SHARING)
    load_weights(supernet, folder / "model_final.pth")
    shared = supernet.extract(result.choices).state_dict()
    own = trained.model.state_dict()
    assert shared.keys() == own.keys()
    for name, value in own.items():
        if name.endswith(("running_mean", "running_var", "num_batches_tracked")):
            continue  # of this network alone
        assert torch.equal(value, shared[name]), name
    moved = [name for name in own if name.endswith("running_var")]
    assert any(not torch.equal(own[name], shared[name]) for name in moved)


def test_every_step_is_logged_and_obeys_equation_4(finished: tuple[Path, SearchResult]) -> None:
    rows = read_metrics(finished[0])
    assert [row["iteration"] for row in rows] == list(range(8))
    for row in rows:
        assert {"entropy", "num_samples", "expected_cost", "mode_cost", "loss", "lr"} <= set(row)
        assert row["num_samples"] == max(1, int(0.15 * row["entropy"] + 1e-9))
    assert "mode_top1" in rows[-1]
    assert finished[1].num_samples == sum(row["num_samples"] for row in rows[2:])


def test_config_of_a_run_reproduces_it(finished: tuple[Path, SearchResult], tmp_path: Path) -> None:
    cfg = get_cfg()
    cfg.merge_from_file(finished[0] / "config.yaml")
    cfg.OUTPUT_DIR = str(tmp_path)
    [again] = search_run.run_search(cfg)
    assert torch.equal(again.distribution.logits, finished[1].distribution.logits)


class _InterruptAfter(HookBase):
    """Acts as a signal that arrives in a step."""

    def __init__(self, step: int, save: Callable[[], Path]) -> None:
        self.step = step
        self.save = save

    def after_step(self) -> None:
        if self.trainer.steps_done == self.step:
            self.save()
            raise Interrupted(2, "stopped by the test")


def interrupted_and_resumed(
    cfg: CfgNode, step: int, monkeypatch: pytest.MonkeyPatch
) -> SearchResult:
    """A search that was stopped after ``step`` steps."""
    build_hooks = search_run.build_hooks

    def with_interrupt(*args: Any, **parts: Any) -> list[HookBase]:
        hooks = build_hooks(*args, **parts)
        save = next(hook.save for hook in hooks if hasattr(hook, "save"))
        return [*hooks, _InterruptAfter(step, save)]

    with monkeypatch.context() as patch:
        patch.setattr(search_run, "build_hooks", with_interrupt)
        with pytest.raises(Interrupted):
            search_run.run_search(cfg)
    [result] = search_run.run_search(cfg, resume=True)
    return result


def assert_same_end(folder: Path, result: SearchResult, whole: tuple[Path, SearchResult]) -> None:
    assert torch.equal(result.distribution.logits, whole[1].distribution.logits)
    weights, expected = (_model(path) for path in (folder, whole[0]))
    assert all(torch.equal(weights[name], value) for name, value in expected.items())
    timeless = [
        [{k: v for k, v in row.items() if "time" not in k} for row in read_metrics(path)]
        for path in (folder, whole[0])
    ]
    assert timeless[0] == timeless[1]


def test_interrupted_mid_epoch_and_resumed_ends_with_the_same_bits(
    finished: tuple[Path, SearchResult], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cfg = make_cfg(tmp_path, SEARCH__ESTIMATOR="paper")
    assert_same_end(tmp_path, interrupted_and_resumed(cfg, 5, monkeypatch), finished)


def test_a_search_with_steps_that_only_rate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their lines and their report lack the loss; a resumed run takes up both halves."""
    options = {"SEARCH__RATING_SHARE": 0.6, "SEARCH__ESTIMATOR": "additive"}
    [result] = search_run.run_search(make_cfg(tmp_path / "whole", **options))
    rows = read_metrics(tmp_path / "whole")
    assert [i for i, row in enumerate(rows) if "loss" not in row] == [3, 5, 6]
    assert [i for i, row in enumerate(rows) if "val_loss" not in row] == [0, 1]
    assert len(result.history["entropy"]) == 6
    assert "Loss of the samples" in (tmp_path / "whole" / "report.html").read_text()
    cfg = make_cfg(tmp_path / "halved", **options)
    resumed = interrupted_and_resumed(cfg, 5, monkeypatch)
    assert_same_end(tmp_path / "halved", resumed, (tmp_path / "whole", result))


def test_a_trained_supernet_may_only_be_rated(
    finished: tuple[Path, SearchResult], tmp_path: Path
) -> None:
    weights = finished[0] / "model_final.pth"
    options = {"SEARCH__RATING_SHARE": 1.0, "SEARCH__WARMUP_EPOCHS": 0, "SOLVER__EPOCHS": 1}
    [result] = search_run.run_search(make_cfg(tmp_path, MODEL__WEIGHTS=weights, **options))
    assert len(result.history["entropy"]) == 2
    assert not any("loss" in row for row in read_metrics(tmp_path))
    before, after = _model(finished[0]), _model(tmp_path)
    supernet = SuperNet(get_space("FP-NAS-Micro").at(SIDE, 3), 3, get_cfg().SEARCH.SHARING)
    trained = dict(supernet.named_parameters())
    assert trained and all(torch.equal(after[name], before[name]) for name in trained)
    assert (tmp_path / "report.html").exists()


def _model(folder: Path) -> dict[str, Tensor]:
    return torch.load(folder / "model_final.pth", weights_only=True)["model"]


@pytest.mark.parametrize(
    ("overrides", "error", "message"),
    [
        ({"SEARCH__SPACE": "FP-NAS-Mikro"}, UserError, "Did you mean 'FP-NAS-Micro'"),
        ({"SEARCH__TARGET": 1e3}, BudgetError, "Reachable at 8 px and 3 classes: [0-9.e+]+ to"),
        ({"SEARCH__TARGETS": "[5e5, 10]"}, BudgetError, "SEARCH.TARGET is 10 flops"),
        ({"SEARCH__TARGETS": "[5e5, 5e5]"}, ConfigError, "must differ"),
        ({"SEARCH__TARGETS": "['many']"}, ConfigError, "list of numbers"),
        ({"SEARCH__COST_INPUT_SIZES": "[8, 16]"}, ConfigError, "each of 1 targets, found .8, 16."),
        ({"SEARCH__FLOOR": 1.0}, ConfigError, "SEARCH.FLOOR"),
        ({"SEARCH__COST": "latency"}, ConfigError, "SEARCH.LATENCY_TABLE"),
        ({"SEARCH__COST": "flop"}, ConfigError, "Did you mean 'flops'"),
        ({"SEARCH__DISTRIBUTION": "joined"}, ConfigError, "SEARCH.DISTRIBUTION.*joint"),
        ({"SEARCH__SAMPLING": "some"}, ConfigError, "SEARCH.SAMPLING.*'adaptive', 'fixed'"),
        ({"SEARCH__ESTIMATOR": "papers"}, UserError, "Did you mean 'paper'"),
        ({"SEARCH__SHARING": "none"}, ConfigError, "SEARCH.SHARING"),
        ({"SEARCH__ZERO_INIT_RESIDUAL": True}, ConfigError, "SHORTCUT to 'always'. Stage 1 "),
        ({"SEARCH__CLASSIFIER_LR": 0.0}, ConfigError, "SEARCH.CLASSIFIER_LR"),
        ({"SEARCH__WARMUP_EPOCHS": 4}, ConfigError, "WARMUP_EPOCHS is 4"),
        ({"SEARCH__RATING_SHARE": 1.5}, ConfigError, "RATING_SHARE is 1.5; valid: 0 to 1"),
        (
            {"SEARCH__RATING_SHARE": 1, "SEARCH__WARMUP_EPOCHS": 0},
            ConfigError,
            "RATING_SHARE is 1.0; valid: below 1 without SEARCH.WARMUP_EPOCHS and MODEL.WEIGHTS",
        ),
        ({"SEARCH__TRAIN_FRACTION": 1.5}, ConfigError, "TRAIN_FRACTION is 1.5"),
        ({"SOLVER__OPTIMIZER": "adamw"}, ConfigError, "OPTIMIZER.*sgd"),
        ({"SOLVER__LABEL_SMOOTHING": 0.1}, ConfigError, "LABEL_SMOOTHING is 0.1; valid: 0.0; a s"),
        ({"SOLVER__EMA_DECAY": 0.9}, ConfigError, "SOLVER.EMA_DECAY"),
        ({"SOLVER__COMPILE": True}, ConfigError, "SOLVER.COMPILE"),
        ({"SOLVER__DISTILL__ARCH": "fbnetv2_f1"}, ConfigError, "SOLVER.DISTILL.ARCH"),
        ({"SOLVER__SCHEDULE": "cosin"}, ConfigError, "SOLVER.SCHEDULE"),
        ({"SOLVER__BATCH_SIZE": 1000}, UserError, "batch"),
        ({"SOLVER__BATCH_SIZE": 25}, DataError, "24 of the 48 .*lower SOLVER.BATCH_SIZE"),
        (
            {"SEARCH__VAL_BATCH_SIZE": 20, "SEARCH__TRAIN_FRACTION": 0.75},
            DataError,
            "12 of the 48 .*validation half .*TRAIN_FRACTION 0.75.*lower SEARCH.VAL_BATCH_SIZE",
        ),
    ],
)
def test_bad_input_names_the_key_and_leaves_nothing(
    tmp_path: Path, overrides: dict[str, Any], error: type[UserError], message: str
) -> None:
    with pytest.raises(error, match=message):
        search_run.run_search(make_cfg(tmp_path / "out", **overrides))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [({"SEARCH__TARGET": 1e3}, "Reachable at 8 px"), ({"OUTPUT_DIR": __file__}, "is no folder")],
)
def test_what_needs_no_images_is_checked_before_they_are_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, overrides: dict[str, Any], message: str
) -> None:
    def decode(images: ImageSet, cfg: CfgNode) -> None:
        raise AssertionError("Images were decoded.")

    monkeypatch.setattr(search_setup, "cache_images", decode)
    with pytest.raises(UserError, match=message):
        search_run.run_search(make_cfg(tmp_path / "out", **overrides))


@pytest.mark.parametrize("name", [n for n in list_configs() if "search" in n.lower()])
def test_shipped_configs_have_no_key_that_a_search_refuses(name: str) -> None:
    cfg = get_cfg()
    cfg.merge_from_file(find_config(name))
    cfg = cfg if cfg.SOLVER.EPOCHS else with_search_length(cfg, 5000)
    search_method(cfg)
    check_search_config(cfg)
    is_mixed = cfg.SEARCH.DISTRIBUTION == "mixed"
    assert not is_mixed or cfg.SEARCH.JOINT_EPOCH < cfg.SOLVER.EPOCHS


def test_weights_of_another_network_leave_nothing(
    finished: tuple[Path, SearchResult], tmp_path: Path
) -> None:
    cfg = make_cfg(
        tmp_path / "out",
        SEARCH__SPACE="FP-NAS-Mini",
        SEARCH__TARGET=5e6,
        MODEL__WEIGHTS=finished[0] / "model_final.pth",
    )
    with pytest.raises(CheckpointError, match="does not fit the model"):
        search_run.run_search(cfg)
    assert not (tmp_path / "out").exists()


def test_resume_with_another_space_is_refused(finished: tuple[Path, SearchResult]) -> None:
    cfg = make_cfg(finished[0], SEARCH__SPACE="FP-NAS-Mini", SEARCH__TARGET=5e6)
    config = (finished[0] / "config.yaml").read_text()
    with pytest.raises(ResumeError, match="SEARCH.SPACE: 'FP-NAS-Micro' then, 'FP-NAS-Mini' now"):
        search_run.run_search(cfg, resume=True)
    with pytest.raises(CheckpointError, match="does not fit the model"):
        search_run.run_search(cfg, resume=True, allow_changes=True)
    assert (finished[0] / "config.yaml").read_text() == config


def test_a_search_that_was_killed_while_it_decoded_is_the_one_that_is_resumed(
    finished: tuple[Path, SearchResult], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(finished[0], tmp_path / "out")
    first = make_cfg(tmp_path / "out", SEARCH__ESTIMATOR="paper")
    second = make_cfg(tmp_path / "out", SEARCH__ESTIMATOR="paper", SOLVER__LR=0.01)

    def die(*args: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(search_setup, "cache_images", die)
        search_run.run_search(second)
    assert (tmp_path / "out" / "earlier-1" / "search_result.pth").is_file()
    with pytest.raises(ResumeError, match="SOLVER.LR: 0.01 then, 0.1 now"):
        search_run.run_search(first, resume=True)
    [result] = search_run.run_search(second, resume=True)
    assert not torch.equal(result.distribution.logits, finished[1].distribution.logits)
    assert len(read_metrics(tmp_path / "out")) == 8


def test_rare_target_is_warned_about(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    lowest, _ = get_space("FP-NAS-Micro").at(SIDE, 3).cost_range()
    [result] = search_run.run_search(
        make_cfg(tmp_path, SEARCH__TARGET=lowest + 1, SOLVER__EPOCHS=2, SEARCH__LAMBDA=0.06)
    )
    assert result.cost == lowest
    assert "flops is rare in FP-NAS-Micro" in caplog.text
    assert "SEARCH.JOINT_EPOCH is 2, but the search has 2 epochs" in caplog.text


def test_several_targets_from_one_supernet(tmp_path: Path) -> None:
    cfg = make_cfg(tmp_path, SEARCH__TARGETS="[3e5, 6e5]", SEARCH__ESTIMATOR="budgeted")
    results = search_run.run_search(cfg)
    assert [result.target for result in results] == [3e5, 6e5]
    for result, name in zip(results, ("target-0.3M", "target-0.6M"), strict=True):
        arch = Architecture.load(tmp_path / name / "architecture.yaml")
        assert arch.flops(SIDE) == result.cost <= result.target
        rows = read_metrics(tmp_path / name)
        assert {row["target"] for row in rows if "target" in row} == {result.target}
        assert sum("loss" in row for row in rows) == 4
        assert "mode_top1" in rows[-1]
        assert (tmp_path / name / "report.html").exists()


def test_targets_count_at_their_own_input_sizes(tmp_path: Path) -> None:
    cfg = make_cfg(
        tmp_path,
        SEARCH__TARGETS="[3e5, 1.2e6]",
        SEARCH__COST_INPUT_SIZES="[8, 16]",
        SEARCH__FLOOR=0.8,
    )
    results = search_run.run_search(cfg)
    for result, name, size in zip(results, ("0.3M", "1.2M"), (8, 16), strict=True):
        arch = Architecture.load(tmp_path / f"target-{name}" / "architecture.yaml")
        assert arch.input_size == size
        assert arch.flops() == result.cost
        assert 0.8 * result.target <= result.cost <= result.target


class FlopsAsLatency:
    """Stands in for a table of measured blocks: 1 ms for every million multiply-adds."""

    def __init__(self, path: str, threads: int) -> None:
        assert (path, threads) == ("blocks.json", 2)

    def cost(self, space: NetworkSpace) -> Callable[[Tensor], Tensor]:
        return lambda choices: space.flops(choices) / 1e6


def test_latency_is_a_budget(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budget, "LatencyTable", FlopsAsLatency)
    latency = {"SEARCH__COST": "latency", "SEARCH__LATENCY_TABLE": "blocks.json"}
    latency |= {"SEARCH__LATENCY_THREADS": 2}
    [result] = search_run.run_search(make_cfg(tmp_path / "a", SEARCH__TARGET=0.5, **latency))
    arch = Architecture.load(tmp_path / "a" / "architecture.yaml")
    assert arch.name == "fp-nas-micro-0.5ms"
    assert arch.flops(SIDE) / 1e6 == pytest.approx(result.cost)
    assert result.cost <= 0.5
    with pytest.raises(BudgetError, match=r"0.001 ms, less than any.*Reachable at 8 px"):
        search_run.run_search(make_cfg(tmp_path / "b", SEARCH__TARGET=0.001, **latency))


def test_a_search_says_what_it_searches_on_and_that_it_is_too_short(tmp_path: Path):
    [result] = search_run.run_search(make_cfg(tmp_path))
    log = (tmp_path / "log.txt").read_text()
    assert "Data: test_run_search: 3 classes, 24 training and 24 validation images" in log
    too_short = "6 steps after the warm-up move the probability of one of 5 values from 0.200 to"
    assert f"This search is too short to find anything: {too_short}" in log
    assert "fpnas search --model efficientnet_lite0" in log
    assert result.note.startswith("The search has hardly learned")
    assert result.note in log
    assert "The search has hardly learned" in (tmp_path / "report.html").read_text()


def test_a_long_search_is_not_called_too_short(tmp_path: Path):
    run = search_run.run_search(make_cfg(tmp_path, SEARCH__ALPHA_LR=0.9))
    assert "too short" not in (tmp_path / "log.txt").read_text()
    assert run[0].note == ""
    assert "hardly" not in (tmp_path / "report.html").read_text()


def test_one_class_cannot_be_searched_on(tmp_path: Path):
    with pytest.raises(DataError, match="one class"):
        search_run.run_search(make_cfg(tmp_path, DATA__NUM_RANDOM_CLASSES=1))
    assert not any(tmp_path.iterdir())


def test_the_additive_estimator_shares_ratings_between_budgets(tmp_path: Path):
    cfg = make_cfg(tmp_path, SEARCH__ESTIMATOR="additive", SEARCH__FORGETTING=0.9)
    cfg.merge_from_list(["SEARCH.TARGETS", "[4e5, 5e5]"])
    results = search_run.run_search(cfg)
    assert [result.cost <= target for result, target in zip(results, (4e5, 5e5), strict=True)] == [
        True,
        True,
    ]
    log = (tmp_path / "log.txt").read_text()
    assert "6 steps after the warm-up, fewer than the" in log
    # Six steps in turns: each budget's own three taught the other as well.
    for result in results:
        assert len(result.history["entropy"]) == 3
        assert result.entropy < result.uniform_entropy - 0.01


def test_forgetting_belongs_to_the_additive_estimator(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"SEARCH\.FORGETTING is 0\.9; valid: 1\.0"):
        search_run.run_search(make_cfg(tmp_path, SEARCH__FORGETTING=0.9))
    with pytest.raises(ConfigError, match=r"SEARCH\.FORGETTING .* above 0"):
        search_run.run_search(
            make_cfg(tmp_path, SEARCH__ESTIMATOR="additive", SEARCH__FORGETTING=0.0)
        )
