"""build_optimizer: kinds, groups, and errors that name the key."""

from __future__ import annotations

import math

import pytest
import torch
from fvcore.common.param_scheduler import ConstantParamScheduler
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from fpnas.config import get_cfg
from fpnas.engine.hooks import LRSchedulerHook
from fpnas.errors import ConfigError
from fpnas.solver import build_optimizer, build_schedule, check_solver_config, restore_optimizer


def small_net() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.Linear(4, 2))


@pytest.mark.parametrize(
    ("name", "kind"),
    [("sgd", torch.optim.SGD), ("rmsprop", torch.optim.RMSprop), ("adamw", torch.optim.AdamW)],
)
def test_the_named_optimizer_has_the_config_s_values(name, kind):
    cfg = get_cfg()
    cfg.merge_from_list(["SOLVER.OPTIMIZER", name, "SOLVER.LR", "0.03", "SOLVER.MOMENTUM", "0.8"])
    optimizer = build_optimizer(cfg, small_net())
    assert type(optimizer) is kind
    assert all(group["lr"] == 0.03 for group in optimizer.param_groups)
    if name != "adamw":
        assert all(group["momentum"] == 0.8 for group in optimizer.param_groups)


def test_rmsprop_takes_the_step_of_efficientnet_s_recipe():
    cfg = get_cfg()
    cfg.merge_from_list(
        ["SOLVER.OPTIMIZER", "rmsprop", "SOLVER.LR", "0.2", "SOLVER.WEIGHT_DECAY", "0"]
    )
    weight = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(weight.weight)
    optimizer = build_optimizer(cfg, weight)
    weight.weight.grad = torch.full((1, 1), 0.5)
    optimizer.step()
    # Mean square 0.1 * 0.25 after the first step, from alpha = 0.9.
    assert weight.weight.item() == pytest.approx(-0.2 * 0.5 / (0.025**0.5 + 0.0316), rel=1e-5)


def test_a_restored_optimizer_has_its_own_settings_and_the_old_momentum():
    cfg = get_cfg()
    cfg.merge_from_list(["SOLVER.OPTIMIZER", "sgd", "SOLVER.LR", "0.1"])
    torch.manual_seed(0)
    net = small_net()
    old = build_optimizer(cfg, net)
    for parameter in net.parameters():
        parameter.grad = torch.rand_like(parameter)
    old.step()
    LRSchedulerHook(old, ConstantParamScheduler(1.0))  # notes the base rate in the groups

    cfg.merge_from_list(["SOLVER.LR", "0.01", "SOLVER.WEIGHT_DECAY", "0.5", "SOLVER.MOMENTUM", "0"])
    new = build_optimizer(cfg, net)
    expected = [{k: v for k, v in group.items() if k != "params"} for group in new.param_groups]
    restore_optimizer(new, old.state_dict())
    settings = [{k: v for k, v in group.items() if k != "params"} for group in new.param_groups]
    assert settings == expected
    assert all(
        torch.equal(new.state[p]["momentum_buffer"], old.state[p]["momentum_buffer"])
        for p in net.parameters()
    )


def test_batchnorm_and_biases_have_their_own_weight_decay():
    cfg = get_cfg()
    cfg.SOLVER.WEIGHT_DECAY, cfg.SOLVER.WEIGHT_DECAY_NORM = 0.1, 0.01
    net = small_net()
    decays = {
        id(parameter): group["weight_decay"]
        for group in build_optimizer(cfg, net).param_groups
        for parameter in group["params"]
    }
    found = {name: decays[id(parameter)] for name, parameter in net.named_parameters()}
    assert found == {
        "0.weight": 0.1,
        "1.weight": 0.01,
        "1.bias": 0.01,
        "2.weight": 0.1,
        "2.bias": 0.01,
    }


def test_frozen_parameters_are_left_out():
    net = small_net()
    net[0].requires_grad_(False)
    groups = build_optimizer(get_cfg(), net).param_groups
    assert net[0].weight not in {p for group in groups for p in group["params"]}
    assert sum(len(group["params"]) for group in groups) == 4


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("OPTIMIZER", "rmspop", "Did you mean 'rmsprop'?"),
        ("SCHEDULE", "cosin", "Did you mean 'cosine'?"),
        ("EPOCHS", "0", "at least 1"),
        ("LR", "-1", "above 0"),
        ("MOMENTUM", "1", "below 1"),
        ("LABEL_SMOOTHING", "1", "below 1"),
        ("EMA_DECAY", "1.5", "below 1"),
        ("LR_WARMUP_EPOCHS", "30", "SOLVER.EPOCHS (30)"),
        ("DISTILL.TEMPERATURE", "0", "above 0"),
    ],
)
def test_a_useless_value_is_named_with_what_is_valid(key, value, said):
    cfg = get_cfg()
    cfg.merge_from_list([f"SOLVER.{key}", value])
    with pytest.raises(ConfigError) as error:
        check_solver_config(cfg)
    assert str(error.value).startswith(f"SOLVER.{key} is ")
    assert said in str(error.value)


def test_the_default_solver_is_valid():
    check_solver_config(get_cfg())


@pytest.mark.parametrize(
    "pairs",
    [
        ["SOLVER.SCHEDULE", "onecycle", "SOLVER.LR_WARMUP_EPOCHS", "2"],
        ["SOLVER.OPTIMIZER", "adamw", "SOLVER.NESTEROV", "True"],
    ],
)
def test_keys_that_exclude_each_other_are_refused(pairs):
    cfg = get_cfg()
    cfg.merge_from_list(pairs)
    with pytest.raises(ConfigError, match=pairs[2]):
        check_solver_config(cfg)


def test_a_slower_body_leaves_the_classifier_its_rate():
    cfg = get_cfg()
    cfg.merge_from_list(["SOLVER.LR", "0.1", "SOLVER.BODY_LR", "0.2"])
    net = nn.Module()
    net.stem, net.head = small_net(), nn.Module()
    net.head.fc = nn.Linear(2, 3)
    rates = {
        parameter: group["lr"]
        for group in build_optimizer(cfg, net).param_groups
        for parameter in group["params"]
    }
    assert len(rates) == len(list(net.parameters()))
    assert {rates[p] for p in net.head.fc.parameters()} == {0.1}
    assert [rates[p] for p in net.stem.parameters()] == pytest.approx([0.02] * 5)
    groups = build_optimizer(cfg, net).param_groups
    decays = {p: group["weight_decay"] for group in groups for p in group["params"]}
    assert decays[net.head.fc.bias] == 0 and decays[net.head.fc.weight] > 0


def factors(iters: int, **solver: object) -> list[float]:
    """The factor of every iteration of a run."""
    cfg = get_cfg()
    for key, value in solver.items():
        cfg.merge_from_list([f"SOLVER.{key}", str(value)])
    schedule = build_schedule(cfg, iters)
    total = cfg.SOLVER.EPOCHS * iters
    return [schedule(i / total) for i in range(total)]


def test_cosine():
    found = factors(7, SCHEDULE="cosine", EPOCHS=5, LR_END=0.1)
    assert found == pytest.approx(
        [0.1 + 0.9 * (1 + math.cos(math.pi * i / 35)) / 2 for i in range(35)]
    )


@given(st.integers(1, 40), st.integers(1, 60))
def test_exponential_falls_exactly_at_the_epochs(epochs, iters):
    found = factors(iters, SCHEDULE="exponential", EPOCHS=epochs, LR_DECAY=0.9875)
    assert found == [0.9875 ** (i // iters) for i in range(epochs * iters)]


def test_exponential_counts_iterations_of_a_run_of_millions():
    cfg = get_cfg()
    cfg.merge_from_list(["SOLVER.SCHEDULE", "exponential", "SOLVER.EPOCHS", "420"])
    schedule = build_schedule(cfg, 40_000)
    total = 420 * 40_000
    assert schedule((7 * 40_000 - 1) / total) == 0.9875**6
    assert schedule(7 * 40_000 / total) == 0.9875**7


def test_onecycle_is_torch_s():
    import torch

    parameter = torch.nn.Parameter(torch.zeros(()))
    optimizer = torch.optim.SGD([parameter], lr=1.0)
    total = 40
    # torch ends with its last step, we end one step later: hence total + 1.
    reference = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, 1.0, total_steps=total + 1, div_factor=25, final_div_factor=1e9,
        cycle_momentum=False, pct_start=13 / 41,
    )  # fmt: skip
    expected = []
    for _ in range(total):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        reference.step()
    found = factors(10, SCHEDULE="onecycle", EPOCHS=4)
    assert found == pytest.approx(expected, abs=1e-6)
    assert max(found) == 1.0 and found.index(1.0) == 12


def test_constant():
    assert set(factors(3, SCHEDULE="constant", EPOCHS=2)) == {1.0}


@pytest.mark.parametrize("schedule", ["cosine", "exponential", "constant"])
def test_warm_up_rises_linearly_to_one_and_the_schedule_fills_the_rest(schedule):
    found = factors(10, SCHEDULE=schedule, EPOCHS=6, LR_WARMUP_EPOCHS=2.0, LR_WARMUP_FACTOR=0.2)
    assert found[:20] == pytest.approx([0.2 + 0.8 * i / 20 for i in range(20)])
    assert found[20:] == pytest.approx(factors(10, SCHEDULE=schedule, EPOCHS=4))


def test_warm_up_of_less_than_an_epoch():
    found = factors(10, SCHEDULE="constant", EPOCHS=1, LR_WARMUP_EPOCHS=0.5, LR_WARMUP_FACTOR=0.0)
    assert found == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1, 1, 1, 1, 1])
