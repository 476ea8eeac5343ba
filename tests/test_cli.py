"""The command line: help, exit codes, and errors as one paragraph without a traceback."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import fpnas
from fpnas.archs import Architecture
from fpnas.blocks import ConvSpec, HeadSpec, MBConvSpec
from fpnas.cli import main
from fpnas.cli.main import COMMANDS, guarded
from fpnas.cli.quickstart import Clock, summary_table
from fpnas.config import get_cfg, list_configs
from fpnas.errors import UserError
from fpnas.spaces import get_space


def error_of(argv: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """Run a command that must fail as a user's error; return its message."""
    assert main(argv) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.startswith("fpnas: error: ")
    assert output.err.count("\n") == 1
    return output.err


def run_python(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Python in a process of its own that can import fpnas from any folder."""
    path = str(Path(fpnas.__file__).parents[1])
    return subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": path},
    )


def smallest_architecture() -> Architecture:
    space = get_space("FP-NAS-Micro")
    return space.architecture([0] * len(space.variables), name="smallest")


def test_help_lists_all_commands_without_loading_torch():
    output = run_python(
        "-c",
        "import sys\n"
        "from fpnas.cli import main\n"
        "try:\n"
        "    main(['--help'])\n"
        "except SystemExit as stop:\n"
        "    print('exit', stop.code, 'torch' in sys.modules)\n",
    ).stdout
    for command in COMMANDS:
        assert f"\n    {command}" in output
    assert output.endswith("exit 0 False\n")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command, capsys):
    with pytest.raises(SystemExit) as stop:
        main([command, "--help"])
    assert stop.value.code == 0
    output = capsys.readouterr().out
    assert COMMANDS[command].__doc__.splitlines()[0] in output


@pytest.mark.parametrize("command", ["search", "train"])
def test_run_commands_take_detectron2s_flags(command, capsys):
    with pytest.raises(SystemExit):
        main([command, "--help"])
    output = capsys.readouterr().out
    for flag in (
        "--config-file",
        "--resume",
        "--num-gpus",
        "--num-machines",
        "--machine-rank",
        "--dist-url",
    ):
        assert flag in output


def test_version(capsys):
    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out == f"fpnas {fpnas.__version__}\n"


@pytest.mark.parametrize("command", ["search", "train", "eval", "export", "analyze"])
@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["SOLVER.EPOCH", "3"], ["'SOLVER.EPOCH'", "'SOLVER.EPOCHS'"]),
        (["SOLVER.EPOCHS", "three"], ["'SOLVER.EPOCHS'", "int", "'three'"]),
        (["SEED", "1", "--resume"], ["'--resume'", "before"]),
        (["--config-file", "missing.yaml"], ["'missing.yaml' does not exist"]),
    ],
)
def test_wrong_config_is_one_paragraph(command, argv, words, capsys):
    message = error_of([command, *argv], capsys)
    for word in words:
        assert word in message


def test_user_error_prints_no_traceback_in_a_process(tmp_path):
    result = run_python("-m", "fpnas", "search", "SEARCH.TARGTE", "1", cwd=tmp_path)
    assert result.returncode == 2
    assert result.stdout == ""
    assert "Did you mean 'SEARCH.TARGET'?" in result.stderr
    assert "Traceback" not in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_long_message_becomes_one_line(capsys):
    def fail(args: object) -> int:
        raise UserError("first line\n   second line")

    assert guarded(fail, None) == 2
    assert capsys.readouterr().err == "fpnas: error: first line second line\n"


def test_bugs_keep_their_traceback():
    def fail(args: object) -> int:
        raise ValueError("a bug")

    with pytest.raises(ValueError, match="a bug"):
        guarded(fail, None)


def test_saved_interrupt_keeps_its_exit_code():
    def interrupt(args: object) -> int:
        raise SystemExit(143)

    with pytest.raises(SystemExit) as stop:
        guarded(interrupt, None)
    assert stop.value.code == 143


def test_closed_pipe_is_no_error():
    command = f"{sys.executable} -m fpnas configs | true; echo ${{PIPESTATUS[0]}}"
    result = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
    assert result.stdout == "0\n"
    assert "Traceback" not in result.stderr


def test_configs_lists_every_shipped_config(capsys):
    assert main(["configs"]) == 0
    output = capsys.readouterr().out
    for name in list_configs():
        assert f"\n  {name}" in output


def test_analyze_prints_a_space_with_the_papers_figures(capsys):
    assert main(["analyze", "--space", "FP-NAS-L0", "--samples", "500"]) == 0
    output = capsys.readouterr().out
    for word in ["1.86e+32", "2e+32", "74.30", "11880", "245", "median of 500", "390", "Table 3"]:
        assert word in output


def test_analyze_hides_the_papers_median_at_another_input_size(capsys):
    main(["analyze", "--space", "FP-NAS-L0", "--samples", "50", "--input-size", "64"])
    costs = capsys.readouterr().out.split("FLOPs, M")[1].splitlines()[0]
    assert len(costs.split()) == 3


def test_analyze_prints_the_layers_of_an_architecture(tmp_path, capsys):
    arch = smallest_architecture()
    path = tmp_path / "arch.yaml"
    arch.save(path)
    assert main(["analyze", "--arch", str(path)]) == 0
    output = capsys.readouterr().out
    assert output.startswith("smallest: 28 px, 10 classes")
    assert f"{arch.flops() / 1e6:.3f}" in output.splitlines()[-1]
    for name, _, _ in arch.named_blocks():
        assert f"\n{name} " in output


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["analyze"], ["--space", "--arch", "--config-file"]),
        (["analyze", "--space", "FBNetV2-G"], ["FBNetV2-G", "Did you mean 'FBNetV2-F'?"]),
        (["analyze", "--space", "FBNetV2-F", "--arch", "x.yaml"], ["not both"]),
        (["analyze", "--space", "FBNetV2-F", "--samples", "0"], ["--samples", "0"]),
        (["analyze", "--space", "FBNetV2-F", "--input-size", "-3"], ["--input-size", "-3"]),
        (["analyze", "--arch", "missing.yaml"], ["missing.yaml"]),
        (["zoo", "list", "nothing*"], ["'nothing*'"]),
        (["zoo", "info", "no_such_net"], ["no_such_net"]),
        (["export", "--formats", "onx", "--arch", "x.yaml"], ["onx", "onnx"]),
    ],
)
def test_wrong_request_is_one_paragraph(argv, words, capsys):
    message = error_of(argv, capsys)
    for word in words:
        assert word in message


def test_quickstart_table_shows_every_figure():
    table = summary_table(
        {
            "space": "FP-NAS-Micro",
            "target_flops": 3e6,
            "flops": 2_912_345,
            "params": 123_456,
            "samples": 789,
            "search_seconds": 90.0,
            "train_seconds": 150.0,
            "test_top1": 90.25,
            "exports": [
                {
                    "format": "onnx",
                    "file": "model.onnx",
                    "max_rel_error": 1.5e-6,
                    "top1_agreement": 100.0,
                    "ms": 0.321,
                },
                {
                    "format": "torchscript",
                    "file": "model.pt",
                    "max_rel_error": None,
                    "top1_agreement": None,
                    "ms": 0.5,
                },
            ],
        }
    )
    for figure in (
        "FP-NAS-Micro",
        "789",
        "1.5 min",
        "2.5 min",
        "2.91 M, target 3 M",
        "0.123 M",
        "90.25 %",
        "1.5e-06",
        "100.0 %",
        "0.32 ms",
        "unverified",
    ):
        assert figure in table


def test_clock_adds_up_over_an_interruption(tmp_path):
    path = tmp_path / "new" / "seconds.json"
    with pytest.raises(SystemExit), Clock(path, keep=False).measure("search"):
        raise SystemExit(130)
    path.write_text('{"search": 100.0}')
    resumed = Clock(path, keep=True)
    with resumed.measure("search"):
        pass
    assert resumed.seconds["search"] == pytest.approx(100.0, abs=1)
    assert json.loads(path.read_text()) == resumed.seconds
    assert Clock(path, keep=False).seconds == {}


def test_quickstart_says_that_its_folder_cannot_be_written_to(tmp_path, capsys):
    (tmp_path / "file").touch()
    assert main(["quickstart", "--output-dir", str(tmp_path / "file")]) == 2
    message = capsys.readouterr().err.splitlines()[-1]
    assert f"OUTPUT_DIR '{tmp_path / 'file' / 'search'}' cannot be written to" in message


def test_export_needs_a_network_of_the_datas_classes(tmp_path, capsys):
    argv = ["export", "--arch", "fbnetv2_f1", "--output-dir", str(tmp_path / "out")]
    assert main([*argv, "MODEL.NUM_CLASSES", "7"]) == 2
    message = capsys.readouterr().err.splitlines()[-1]
    assert "7 classes" in message
    assert "'fashion_mnist_mini' has 10" in message
    assert not (tmp_path / "out").exists()


def test_exported_file_matches_the_weights_of_a_training(tmp_path, capsys):
    from fpnas.modeling import build_model

    arch = smallest_architecture()
    arch.save(tmp_path / "arch.yaml")
    cfg = get_cfg()
    cfg.MODEL.ARCH = str(tmp_path / "arch.yaml")
    torch.manual_seed(0)
    torch.save(build_model(cfg).state_dict(), tmp_path / "weights.pth")
    argv = ["export", "--arch", cfg.MODEL.ARCH, "--weights", str(tmp_path / "weights.pth")]
    argv += [
        "--formats",
        "onnx",
        "--output-dir",
        str(tmp_path / "out"),
        "EXPORT.PARITY_IMAGES",
        "20",
    ]
    assert main(argv) == 0
    assert "onnx" in capsys.readouterr().out
    (report,) = json.loads((tmp_path / "out" / "export.json").read_text())
    assert Path(report["file"]).is_file()
    assert report["status"] == "ok"
    assert report["max_rel_error"] < 1e-4


def test_export_says_which_rewrites_accelerators_of_phones_need(tmp_path, capsys):
    hint = "EXPORT.REWRITES \"('phone',)\""
    for splits, is_hint_needed in ((0, False), (1, True)):
        block = MBConvSpec(8, 2, 3, 2, splits=splits)
        head = HeadSpec(16, num_classes=10)
        Architecture("small", 28, ConvSpec(8), ((block,),), head).save(tmp_path / "arch.yaml")
        argv = ["export", "--arch", str(tmp_path / "arch.yaml"), "--formats", "onnx"]
        argv += ["--output-dir", str(tmp_path / "out"), "EXPORT.PARITY_IMAGES", "20"]
        assert main(argv) == 0
        assert (hint in capsys.readouterr().out) == is_hint_needed
    assert main([*argv, "EXPORT.REWRITES", "('phone',)"]) == 0
    said = capsys.readouterr().out
    assert "onnx on phones: NNAPI yes, CoreML yes" in said and hint not in said


def test_output_is_free_of_libraries_warnings(tmp_path):
    smallest_architecture().save(tmp_path / "arch.yaml")
    result = run_python(
        "-m", "fpnas", "export", "--formats", "x", "--arch", "arch.yaml", cwd=tmp_path
    )
    assert result.stderr.startswith("fpnas: error: Unknown export format 'x'.")
    assert result.stderr.count("\n") == 1
