import os
import platform
import subprocess
import sys

import pytest
import torch
from custom_components.inferers import autocast_inferer
from custom_components.inferers.autocast_inferer import AutocastInferer, cpu_computes_bfloat16
from monai.data import MetaTensor
from monai.inferers import SimpleInferer, SliceInferer


class Recorder(torch.nn.Module):
    """A convolution that records the data type of its output."""

    def __init__(self):
        super().__init__()
        self.convolution = torch.nn.Conv2d(1, 4, 1)
        self.computed_in = None

    def forward(self, x):
        y = self.convolution(x)
        self.computed_in = y.dtype
        return y


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", torch.bfloat16])
def test_the_network_computes_in_half_precision_and_the_result_is_float32(dtype):
    network = Recorder()
    result = AutocastInferer(SimpleInferer(), dtype=dtype, enabled=True)(torch.rand(2, 1, 5, 6), network)
    assert str(network.computed_in).removeprefix("torch.") == str(dtype).removeprefix("torch.")
    assert result.dtype == torch.float32


def test_without_autocast_the_result_is_that_of_the_wrapped_inferer():
    network, inputs = Recorder(), torch.rand(2, 1, 5, 6)
    result = AutocastInferer(SimpleInferer(), enabled=False)(inputs, network)
    assert torch.equal(result, network(inputs))


@pytest.mark.parametrize("hardware", [True, False])
def test_auto_depends_on_the_cpu(monkeypatch, hardware):
    monkeypatch.setattr(autocast_inferer, "cpu_computes_bfloat16", lambda: hardware)
    network = Recorder()
    AutocastInferer(SimpleInferer())(torch.rand(2, 1, 5, 6), network)
    assert network.computed_in == (torch.bfloat16 if hardware else torch.float32)


def test_auto_is_off_for_cuda_and_float16(monkeypatch):
    monkeypatch.setattr(autocast_inferer, "cpu_computes_bfloat16", lambda: True)
    assert not AutocastInferer(SimpleInferer())._is_on("cuda")
    assert not AutocastInferer(SimpleInferer(), dtype="float16")._is_on("cpu")


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [
        ({"avx512_f": True, "avx512_bf16": True}, True),
        ({"avx512_f": True, "amx_bf16": True}, True),
        ({"avx512_f": True, "avx512_vnni": True}, False),
        ({"neon": True, "bf16": True}, True),
        ({}, False),
    ],
)
def test_emulated_bfloat16_is_not_hardware(capabilities, expected):
    assert cpu_computes_bfloat16(capabilities) is expected


@pytest.mark.slow
@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="AVX2 is an instruction set of x86")
def test_a_limit_of_onednn_is_respected():
    """This limit simulates a machine with AVX2, where emulated bfloat16 is many times slower."""
    program = "from custom_components.inferers.autocast_inferer import *; print(cpu_computes_bfloat16())"
    limit = {"ONEDNN_MAX_CPU_ISA": "AVX2"}
    done = subprocess.run([sys.executable, "-c", program], env=os.environ | limit, capture_output=True, text=True)
    assert done.stdout.split() == ["False"], done.stderr


def test_a_slice_inferer_keeps_its_metadata():
    volume = MetaTensor(torch.rand(1, 1, 5, 6, 7), meta={"filename_or_obj": "012.nii.gz"})
    inferer = AutocastInferer(SliceInferer(roi_size=(5, 6), spatial_dim=2), enabled=True)
    result = inferer(volume, Recorder())
    assert result.shape == (1, 4, 5, 6, 7)
    assert result.dtype == torch.float32
    assert result.meta["filename_or_obj"] == "012.nii.gz"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"dtype": "float64"}, "bfloat16 or float16, got float64"), ({"enabled": "yes"}, "got 'yes'")],
)
def test_unknown_settings_are_an_error(arguments, message):
    with pytest.raises(ValueError, match=message):
        AutocastInferer(SimpleInferer(), **arguments)
