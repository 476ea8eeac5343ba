"""build_optimizer: kinds, groups, and errors that name the key."""

from __future__ import annotations

import pytest
import torch
from fvcore.common.param_scheduler import ConstantParamScheduler
from torch import nn

from fpnas.config import get_cfg
from fpnas.engine.hooks import LRSchedulerHook
from fpnas.errors import ConfigError
from fpnas.solver import build_optimizer, check_solver_config, restore_optimizer


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
