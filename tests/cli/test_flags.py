"""Flags that the commands share."""

from __future__ import annotations

import argparse

from fpnas.cli.flags import add_config_arguments, add_launch_arguments


def test_flags_come_before_overrides_which_may_be_negative():
    parser = argparse.ArgumentParser()
    add_launch_arguments(parser)
    add_config_arguments(parser)
    args = parser.parse_args(
        ["--config-file", "a.yaml", "--num-gpus", "2", "SOLVER.LR", "-0.1"],
    )
    assert args.config_file == "a.yaml"
    assert (args.num_gpus, args.num_machines, args.machine_rank) == (2, 1, 0)
    assert args.dist_url == "auto"
    assert args.opts == ["SOLVER.LR", "-0.1"]
