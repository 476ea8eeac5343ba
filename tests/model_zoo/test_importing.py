"""Foreign state dicts: the names are those of the published files, and a misfit writes nothing."""

from __future__ import annotations

import hashlib

import pytest
import torch
from zoo_cases import lite_state, tiny_arch, tiny_net

from fpnas.archs import get_arch
from fpnas.errors import CheckpointError, UserError
from fpnas.model_zoo import layouts
from fpnas.model_zoo.importing import (
    IMPORTERS,
    import_to_file,
    import_weights,
)
from fpnas.modeling import SearchedNet
from fpnas.utils.checkpoint import load_weights

IMAGES = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))

LITE_NAMES = [
    ("efficientnet_lite0", 296, "720be1da0eef5a2fb044732a4745864a2d33cda478d6439bffed9c83f24649c3"),
    ("efficientnet_lite1", 386, "fbc51a0828acf043fceff74fc4bebb092523d5be54933a64102341cf3985cca6"),
    ("efficientnet_lite2", 386, "fbc51a0828acf043fceff74fc4bebb092523d5be54933a64102341cf3985cca6"),
]
MOBILE_VISION_NAMES = [
    ("fbnetv2_f1", 288, "1c2cd331bd247846be838eae018139063c981a93345c8c11abf4a8740820b745"),
    ("fbnetv2_f2", 288, "1c2cd331bd247846be838eae018139063c981a93345c8c11abf4a8740820b745"),
    ("fbnetv2_f3", 288, "1c2cd331bd247846be838eae018139063c981a93345c8c11abf4a8740820b745"),
    ("fbnetv2_f4", 362, "c8a71ff7a3123d35d212a46094b2202cf283cd72f684c1aa7d864aa588ede8f5"),
    ("fbnetv2_l1", 486, "6200cc9177f90f58e89556a9a3e2fc8e89d1d032816d67052526b34ab13e01eb"),
    ("fbnetv2_l2", 486, "6200cc9177f90f58e89556a9a3e2fc8e89d1d032816d67052526b34ab13e01eb"),
]


def digest(names) -> str:
    return hashlib.sha256("\n".join(sorted(names)).encode()).hexdigest()


def foreign_names(importer, arch_name, monkeypatch) -> list[str]:
    """The names that the importer asks for, in place of the weights."""
    monkeypatch.setattr(
        layouts,
        "rename",
        lambda state, name, arch: [name(own) for own in layouts.own_weights(arch)],
    )
    return importer({}, get_arch(arch_name))


# Digests of the names in the published files, and their number.
@pytest.mark.parametrize(("arch", "count", "names"), LITE_NAMES)
def test_names_of_the_published_lite_files(arch, count, names, monkeypatch):
    found = foreign_names(layouts.from_efficientnet_lite, arch, monkeypatch)
    assert (len(found), digest(found)) == (count, names)


# The same of networks built by mobile-vision, which alone has a bias in the stem.
@pytest.mark.parametrize(("arch", "count", "names"), MOBILE_VISION_NAMES)
def test_names_of_mobile_visions_networks(arch, count, names, monkeypatch):
    found = foreign_names(layouts.from_mobile_vision, arch, monkeypatch)
    found.append("backbone.stages.xif0_0.conv.bias")
    assert (len(found), digest(found)) == (count, names)


def test_imported_network_computes_the_same(tmp_path):
    torch.save(lite_state(), tmp_path / "w.pth")
    net = SearchedNet(tiny_arch()).eval()
    net.load_state_dict(import_weights(f"efficientnet-lite:{tmp_path / 'w.pth'}", tiny_arch()))
    assert torch.equal(net(IMAGES), tiny_net()(IMAGES))


def test_bias_in_front_of_batchnorm_moves_into_its_mean(monkeypatch):
    """The reference is the convolution with bias itself."""
    net = SearchedNet(get_arch("fbnetv2_f1")).eval()
    own = net.state_dict()
    with monkeypatch.context() as patched:
        theirs = foreign_names(layouts.from_mobile_vision, "fbnetv2_f1", patched)
    bias = torch.linspace(-1, 1, 8)
    foreign = dict(zip(theirs, own.values(), strict=True))
    foreign["backbone.stages.xif0_0.conv.bias"] = bias
    image = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = net.stem.act(net.stem.bn(net.stem.conv(image) + bias[:, None, None]))
        net.load_state_dict(layouts.from_mobile_vision(foreign, net.arch))
        torch.testing.assert_close(net.stem(image), expected)


@pytest.mark.parametrize("wrap", ["state_dict", "model", "model_ema"])
def test_wrapped_and_distributed_weights(tmp_path, wrap):
    state = {f"module.{name}": value for name, value in lite_state().items()}
    torch.save({"epoch": 3, "model_ema": None, wrap: state}, tmp_path / "w.pth")
    weights = import_weights(f"efficientnet-lite:{tmp_path / 'w.pth'}", tiny_arch())
    assert torch.equal(weights["head.fc.bias"], tiny_net().state_dict()["head.fc.bias"])


def test_file_is_written_and_loads(tmp_path):
    torch.save(lite_state(), tmp_path / "w.pth")
    output = tmp_path / "ours.safetensors"
    count = import_to_file(f"efficientnet-lite:{tmp_path / 'w.pth'}", tiny_arch(), output)
    assert count == len(lite_state())
    net = SearchedNet(tiny_arch()).eval()
    load_weights(net, output)
    assert torch.equal(net(IMAGES), tiny_net()(IMAGES))


def test_missing_counter_of_batches_is_zero(tmp_path):
    state = {k: v for k, v in lite_state().items() if not k.endswith("num_batches_tracked")}
    torch.save(state, tmp_path / "w.pth")
    weights = import_weights(f"efficientnet-lite:{tmp_path / 'w.pth'}", tiny_arch())
    assert weights["stem.bn.num_batches_tracked"] == 0


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"_fc.bias": None}, ["missing: _fc.bias", "head.fc.bias"]),
        ({"_extra": torch.zeros(1)}, ["left over: _extra"]),
        ({"_fc.bias": torch.zeros(5)}, ["another shape: _fc.bias (5,)", "(3,)"]),
        ({"_fc.weight": torch.zeros(16, 3)}, ["another shape: _fc.weight (16, 3)", "(3, 16)"]),
    ],
)
def test_misfit_is_listed_and_nothing_written(tmp_path, change, words):
    state = {k: v for k, v in (lite_state() | change).items() if v is not None}
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(CheckpointError) as error:
        import_to_file(
            f"efficientnet-lite:{tmp_path / 'w.pth'}", tiny_arch(), tmp_path / "o.safetensors"
        )
    for word in [*words, "nothing was imported"]:
        assert word in str(error.value)
    assert [path.name for path in tmp_path.iterdir()] == ["w.pth"]


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("timn:x.pth", ["'timn:x.pth'", "Did you mean 'timm'?"]),
        ("w.pth", ["timm:FILE", "mobile-vision:FILE", "efficientnet-lite:FILE"]),
        ("timm:", ["timm:"]),
        ("timm:no_such_net", ["neither a file nor a model of timm"]),
        ("mobile-vision:none.pth", ["none.pth' does not exist"]),
    ],
)
def test_unusable_source(source, words):
    with pytest.raises(UserError) as error:
        import_weights(source, tiny_arch())
    for word in words:
        assert word in str(error.value)


def test_file_without_weights(tmp_path):
    torch.save({"epoch": 3}, tmp_path / "w.pth")
    with pytest.raises(CheckpointError, match="no state dict"):
        import_weights(f"mobile-vision:{tmp_path / 'w.pth'}", tiny_arch())


def test_output_is_safetensors(tmp_path):
    with pytest.raises(UserError, match=".safetensors"):
        import_to_file("timm:x", tiny_arch(), tmp_path / "o.pth")


def test_output_folder_must_exist(tmp_path):
    torch.save(lite_state(), tmp_path / "w.pth")
    with pytest.raises(UserError, match="Cannot write"):
        import_to_file(
            f"efficientnet-lite:{tmp_path / 'w.pth'}",
            tiny_arch(),
            tmp_path / "none" / "o.safetensors",
        )


def test_timm_file_is_mapped_by_its_own_importer(tmp_path):
    """The file form of timm's layout: the same weights, from the network of that name in timm."""
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    reference = timm.create_model("mnasnet_100").eval()
    torch.save(reference.state_dict(), tmp_path / "t.pth")
    net = SearchedNet(get_arch("mnasnet_100")).eval()
    net.load_state_dict(import_weights(f"timm:{tmp_path / 't.pth'}", net.arch))
    image = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        torch.testing.assert_close(net(image), reference(image), rtol=1e-5, atol=1e-5)
    assert set(IMPORTERS) == {"timm", "mobile-vision", "efficientnet-lite"}
