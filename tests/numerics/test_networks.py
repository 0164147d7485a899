import copy

import pytest
import torch
from custom_components import AttentionResNet, LSHAttention, WithSoftMask

from tests.numerics.networks import NAMES, STAGES, small
from tests.numerics.precision import DEVICES, EPSILON, EXTREMES, HALF, epsilons_off, extreme_input, run_in

# Relative error of the outputs, against float64, in units of the type's epsilon. One number for each network and all
# types: how much a network enlarges a rounding does not depend on the rounding's size. LSH attention's is larger, since
# a rounded token may fall into another bucket.
TOLERANCE = {
    "resnet": 60, "dual": 20, "vbnet": 15, "unet full": 20, "unet none": 20, "unet lsh": 100, "unet plain": 100,
}  # fmt: skip


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", EPSILON, ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_a_network_is_itself_in_any_precision(name, dtype, device):
    subject = small(name)
    off = epsilons_off(subject.network, extreme_input("random", subject.size), dtype, device)
    off.pop("gradient")
    assert all(error < TOLERANCE[name] for error in off.values()), off
    assert dtype == torch.float32 or all(error > 0 for error in off.values())  # autocast was on


@pytest.mark.parametrize("extreme", EXTREMES)
@pytest.mark.parametrize("name", NAMES)
def test_outputs_are_finite_for_any_input_in_any_precision(name, extreme):
    subject = small(name)
    for size in (subject.size, subject.smallest):
        batch = extreme_input(extreme, size)
        for dtype in (torch.float32, *HALF):
            with torch.no_grad(), torch.autocast("cpu", dtype=dtype, enabled=dtype in HALF):
                found = subject.network(batch)
            for value in found.values() if isinstance(found, dict) else [found]:
                assert value.isfinite().all(), (size, dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("extreme", EXTREMES)
@pytest.mark.parametrize("name", NAMES)
def test_gradients_are_finite_for_any_input(name, extreme, dtype):
    if name.startswith("unet") and extreme == "subnormal":
        pytest.skip("the normalisation enlarges 300 times a layer what is no number of any scan: docs/numerics.md")
    subject = small(name)
    found = run_in(dtype, subject.network, extreme_input(extreme, subject.size))
    assert found["gradient"].isfinite().all()
    assert found["gradient"].norm() > 0


@pytest.mark.parametrize("name", ["resnet", "vbnet", "unet lsh"])
def test_a_scan_alone_gives_what_it_gives_in_a_batch(name):
    subject = small(name)
    batch = torch.cat([extreme_input(extreme, subject.size) for extreme in ("random", "1e4", "one")])
    with torch.no_grad():
        together, alone = subject.network(batch), subject.network(batch[:1])
    if not isinstance(together, dict):
        together, alone = {"output": together}, {"output": alone}
    for key, value in together.items():
        torch.testing.assert_close(value[:1], alone[key], rtol=1e-4, atol=1e-4)


def test_weights_in_float16_give_the_network_in_float16():
    subject = small("vbnet")
    batch = extreme_input("random", subject.size)
    with torch.no_grad():
        exact = subject.network(batch)
        half = copy.deepcopy(subject.network).half()(batch.half())
    assert half.dtype == torch.float16
    assert ((half - exact).norm() / exact.norm()).item() < TOLERANCE["vbnet"] * EPSILON[torch.float16]


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("scale", [0.0, 1e-40, 1e-30, 1.0, 1e4])
@pytest.mark.parametrize("kind", ["constant", "one token", "alternating"])
def test_lsh_attention_of_tokens_that_all_look_alike_is_finite(kind, scale, training):
    layer = LSHAttention(embed_dim=8, num_heads=2, bucket_size=4, num_rounds=2).train(training)
    length = {"constant": 37, "one token": 1, "alternating": 37}[kind]
    pattern = (torch.arange(length) % 2).float() if kind == "alternating" else torch.ones(length)
    tokens = (scale * pattern[None, :, None]).repeat(2, 1, 8).requires_grad_()
    attended = layer(tokens)
    attended.square().sum().backward()
    gradients = [tokens.grad, *(weight.grad for weight in layer.parameters())]
    assert all(value.isfinite().all() for value in (attended, *gradients))


def test_one_scan_a_batch_trains_the_classifier():
    network = WithSoftMask(AttentionResNet(**STAGES)).train()
    found = network(torch.rand(1, 1, 20, 32, 48))
    (found["logit"].sum() + found["attention"].sum()).backward()
    assert all(weight.grad.isfinite().all() for weight in network.parameters())
    assert all(buffer.isfinite().all() for buffer in network.buffers())
