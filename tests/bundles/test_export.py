import json
import math
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType, SimpleNamespace
from typing import Any

import pytest
import torch
from custom_components.networks.dual_sampling import branch_weight, ensemble_logit
from monai.bundle import ConfigParser, ckpt_export, onnx_export

from tests.bundles.conftest import ROOT

SEG = SimpleNamespace(
    folder=ROOT / "covid_seg_bundle",
    small={
        "network_def#features": [8, 16],
        "network_def#attention": "lsh",
        "network_def#num_heads": 2,
        "network_def#bucket_size": 8,
    },
    unseen=[(1, 1, 33, 47), (3, 1, 64, 40), (1, 1, 65, 66)],  # the last: more than 256 buckets, a hash of two digits
)
CAP = SimpleNamespace(
    folder=ROOT / "covid_cap_bundle",
    small={"layers": [1, 1, 1, 1], "block_inplanes": [4, 8, 12, 16]},
    unseen=[(1, 2, 24, 40, 56), (3, 2, 17, 33, 47)],
)
FILES = {"config_file": "inference.json", "meta_file": "metadata.json"}
MISSING = "needs onnx, onnxscript and onnxruntime: pip install onnx onnxscript onnxruntime"
BUNDLES = pytest.mark.parametrize("bundle", [SEG, CAP], ids=["seg", "cap"])


def eager(bundle: SimpleNamespace, changes: Mapping[str, Any] = MappingProxyType({})) -> torch.nn.Module:
    """A small network of the inference config, its random weights large enough that the input matters."""
    parser = ConfigParser()
    parser.read_config(bundle.folder / "configs" / "inference.json")
    parser.update({**bundle.small, **changes})
    network = parser.get_parsed_content("network_def").eval()
    torch.manual_seed(0)
    for weight in network.parameters():
        if weight.dim() > 1:
            torch.nn.init.normal_(weight, std=0.3)
    return network


def images(bundle: SimpleNamespace) -> list[torch.Tensor]:
    """Of sizes not seen at export; the classifier's ratio lies on either side of its threshold."""
    generator = torch.Generator().manual_seed(1)
    made = [torch.rand(size, generator=generator) for size in bundle.unseen]
    if bundle is CAP:
        for image in made:
            image[:, 1] = 0.0005
            image[0, 1] = 0.01
    return made


def paths(bundle: SimpleNamespace) -> dict[str, Any]:
    return {key: str(bundle.folder / "configs" / name) for key, name in FILES.items()}


@pytest.fixture
def saved(bundle, tmp_path) -> tuple[torch.nn.Module, Path]:
    network = eager(bundle)
    torch.save(network.state_dict(), tmp_path / "model.pt")
    return network, tmp_path / "model.pt"


def assert_same(found: torch.Tensor, expected: torch.Tensor) -> None:
    assert expected.abs().max() > 0.01
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)


@BUNDLES
def test_torchscript_equals_the_network_and_carries_its_configs(bundle, saved, tmp_path):
    network, checkpoint = saved
    target = tmp_path / "model.ts"
    ckpt_export("network_def", str(target), str(checkpoint), **paths(bundle), **bundle.small)
    carried = dict.fromkeys(FILES.values(), "")
    scripted = torch.jit.load(target, _extra_files=carried)
    assert json.loads(carried["inference.json"])["network_def"]["_target_"].startswith("custom_components.")
    assert json.loads(carried["metadata.json"])["network_data_format"]["inputs"]["image"]["modality"] == "CT"
    with torch.no_grad():
        for image in images(bundle):
            assert_same(scripted(image), network(image))
            if bundle is CAP:
                assert_same(scripted.explain(image)["attention_us"], network.explain(image)["attention_us"])


@BUNDLES
def test_weights_without_their_card_are_refused_in_one_line_that_says_what_to_give(
    bundle, saved, tmp_path, bundle_line, caplog
):
    words = ["ckpt_export", "--ckpt_file", saved[1], "--filepath", tmp_path / "model.ts"]
    words += [f"--{key}={value}" for key, value in {**paths(bundle), "bundle_root": bundle.folder}.items()]
    assert bundle_line(*words) == 2
    assert caplog.messages[-1] == (
        f"ckpt_file is {saved[1]}, but the network is built as {bundle.folder}/models/model.pt needs it. Give its own "
        f"weights too: --ckpt_path {saved[1]}"
    )
    assert not (tmp_path / "model.ts").exists()
    assert (
        bundle_line(*words, f"--ckpt_path={saved[1]}", *(f"--{key}={text}" for key, text in bundle.small.items())) == 0
    )
    assert (tmp_path / "model.ts").exists()


@BUNDLES
def test_without_onnxscript_the_export_to_onnx_says_how_to_install_it(bundle, saved, bundle_line, caplog, monkeypatch):
    monkeypatch.setattr("custom_components.command_line.export_command.find_spec", lambda name: None)
    files = [f"--{key}={value}" for key, value in paths(bundle).items()]
    words = ("--filepath", "model.onnx", "--ckpt_file", saved[1], f"--ckpt_path={saved[1]}")
    assert bundle_line("onnx_export", *words, *files) == 2
    assert caplog.messages[-1] == (
        "onnx_export needs onnx and onnxscript. Install what is missing: pip install onnx onnxscript"
    )


@BUNDLES
def test_onnxruntime_equals_the_network(bundle, saved, tmp_path):
    runtime, _, _ = (pytest.importorskip(name, reason=MISSING) for name in ("onnxruntime", "onnx", "onnxscript"))
    network, checkpoint = saved
    target, arguments = tmp_path / "model.onnx", str(bundle.folder / "configs" / "onnx_export.yaml")
    onnx_export(args_file=arguments, filepath=str(target), ckpt_file=str(checkpoint), **paths(bundle), **bundle.small)
    session = runtime.InferenceSession(target, providers=["CPUExecutionProvider"])
    for image in images(bundle):
        with torch.no_grad():
            expected = network(image)
        assert_same(torch.from_numpy(session.run(["pred"], {"image": image.numpy()})[0]), expected)


@pytest.mark.parametrize("bundle", [SEG], ids=["seg"])
def test_weights_of_lsh_attention_export_with_full_attention(bundle, saved, tmp_path):
    network, checkpoint = saved
    target, files = tmp_path / "model.ts", paths(bundle)
    files["config_file"] = [files["config_file"], str(bundle.folder / "configs/full_attention.yaml")]
    small = {name: value for name, value in bundle.small.items() if name != "network_def#attention"}
    ckpt_export("network_def", str(target), str(checkpoint), **files, **small)
    full = eager(bundle, {"network_def#attention": "full"})
    full.load_state_dict(network.state_dict())
    with torch.no_grad():
        for image in images(bundle):
            assert_same(torch.jit.load(target)(image), full(image))


class Verdict(torch.nn.Module):
    def forward(self, logit_us: torch.Tensor, logit_ss: torch.Tensor, ratio: torch.Tensor) -> torch.Tensor:
        return ensemble_logit(logit_us, logit_ss, branch_weight(ratio, weights=(0.35, 1.0)))


def test_in_onnx_too_a_branch_may_be_sure_and_a_ratio_unknown(tmp_path):
    runtime, _, _ = (pytest.importorskip(name, reason=MISSING) for name in ("onnxruntime", "onnx", "onnxscript"))
    logit_us = torch.tensor([-200.0, 200.0, 300.0, 0.5, 1.0])
    logit_ss = torch.tensor([-250.0, -0.25, 300.0, -300.0, 2.0])
    ratio = torch.tensor([0.0, 0.0, 0.5, 0.01, float("nan")])
    inputs = {"us": logit_us, "ss": logit_ss, "ratio": ratio}
    torch.onnx.export(Verdict().eval(), tuple(inputs.values()), tmp_path / "verdict.onnx", input_names=list(inputs))
    session = runtime.InferenceSession(tmp_path / "verdict.onnx", providers=["CPUExecutionProvider"])
    found = session.run(None, {name: value.numpy() for name, value in inputs.items()})[0].tolist()
    expected = [-200.0 + math.log(0.35), math.log((0.35 + 0.65 * 0.4378235) / (0.65 * 0.5621765)), 300.0, 0.5, math.nan]
    assert found == pytest.approx(expected, rel=1e-5, nan_ok=True)
