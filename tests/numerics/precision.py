"""How far a network in less precision is from itself in float64."""

import copy
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import nn

# Distance of 1 to the next number of each type.
EPSILON = {dtype: torch.finfo(dtype).eps for dtype in (torch.float32, torch.bfloat16, torch.float16)}
HALF = (torch.bfloat16, torch.float16)
NEEDS_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
DEVICES = [pytest.param("cpu"), pytest.param("cuda", marks=[pytest.mark.gpu, NEEDS_GPU])]


def extreme_inputs(size: tuple[int, ...]) -> Iterator[tuple[str, torch.Tensor]]:
    """Batches (1, 1, *size) that a network may meet though no scan looks like them."""
    zero = torch.zeros(1, 1, *size)
    places = torch.meshgrid(*map(torch.arange, size), indexing="ij")
    yield "zero", zero
    yield "one", zero + 1
    yield "minus one", zero - 1
    yield "1e4", zero + 1e4
    yield "1e-30", zero + 1e-30
    yield "subnormal", zero + 1e-40
    yield "one voxel", zero.flatten().index_fill(0, torch.tensor(zero.numel() // 2), 1.0).view_as(zero)
    yield "checkerboard", (sum(places) % 2).float().expand_as(zero)
    yield "random", torch.rand(zero.shape, generator=torch.Generator().manual_seed(1))


EXTREMES = [name for name, _ in extreme_inputs((2,))]


def extreme_input(name: str, size: tuple[int, ...]) -> torch.Tensor:
    return dict(extreme_inputs(size))[name]


def run_in(dtype: torch.dtype, network: nn.Module, batch: torch.Tensor, device: str = "cpu") -> dict[str, torch.Tensor]:
    """Outputs and all gradients of the sum of the outputs' squares; half precision is that of autocast."""
    own = copy.deepcopy(network).to(device)
    own = own.double() if dtype == torch.float64 else own
    batch = batch.to(device, torch.float64 if dtype == torch.float64 else torch.float32)
    with torch.autocast(device, dtype=dtype if dtype in HALF else torch.bfloat16, enabled=dtype in HALF):
        found: Any = own(batch)
    outputs = found if isinstance(found, dict) else {"output": found}
    exact = [value if dtype == torch.float64 else value.float() for value in outputs.values()]
    sum(value.square().mean() for value in exact).backward()
    gradient = torch.cat([weight.grad.flatten() for weight in own.parameters() if weight.grad is not None])
    return {name: value.detach().cpu().double() for name, value in {**outputs, "gradient": gradient}.items()}


def relative_error(found: torch.Tensor, exact: torch.Tensor) -> float:
    """Root mean square of the difference over that of the exact values."""
    return ((found.double() - exact.double()).norm() / exact.double().norm()).item()


def epsilons_off(network: nn.Module, batch: torch.Tensor, dtype: torch.dtype, device: str = "cpu") -> dict[str, float]:
    """Relative error of each output, and of the gradient, in units of the type's epsilon."""
    exact, found = run_in(torch.float64, network, batch), run_in(dtype, network, batch, device)
    return {name: relative_error(found[name], exact[name]) / EPSILON[dtype] for name in exact}
