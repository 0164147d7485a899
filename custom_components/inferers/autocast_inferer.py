from collections.abc import Callable, Mapping
from typing import Any, Literal

import torch
from ignite.utils import apply_to_tensor
from monai.inferers import Inferer

_HALF_TYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16}


def cpu_computes_bfloat16(capabilities: Mapping[str, Any] | None = None) -> bool:
    """Whether this CPU supports bfloat16 multiplication in hardware.

    oneDNN also accepts bfloat16 when it must emulate it, so its own answer does not show whether bfloat16 is faster. It
    may also be restricted to fewer instructions than the CPU has (``ONEDNN_MAX_CPU_ISA``).

    Args:
        capabilities: instruction sets by name, as ``torch.cpu.get_capabilities()`` lists them; when None, those of this
            CPU that oneDNN may use.

    Returns:
        True with AVX512-BF16 or AMX (x86), or BF16 (ARM).

    Example:
        >>> cpu_computes_bfloat16({"avx512_f": True, "avx512_bf16": False})
        False
    """
    if capabilities is None and not _onednn_takes_bfloat16():
        return False
    found = _cpu_capabilities() if capabilities is None else capabilities
    return any(bool(found.get(name)) for name in ("avx512_bf16", "amx_bf16", "bf16", "sve_bf16"))


class AutocastInferer(Inferer):
    """Run another inferer under ``torch.autocast`` on the inputs' device and return float32.

    MONAI's engines support autocast only for CUDA (``torch.autocast("cuda")``); this inferer also supports the CPU.
    ``enabled="auto"`` turns it on for CPUs with bfloat16 in hardware (a U-Net is about 3 times faster with AMX). It is
    off for other CPUs, which emulate bfloat16, and for CUDA, where the engine's ``amp`` decides.

    Args:
        inferer: the inferer to run.
        dtype: ``bfloat16`` or ``float16``.
        enabled: ``auto``, or True / False for any device.

    Raises:
        ValueError: when ``dtype`` or ``enabled`` has another value.

    Example:
        >>> from monai.inferers import SimpleInferer
        >>> inferer = AutocastInferer(SimpleInferer(), enabled=True)
        >>> inferer(torch.ones(1, 2), torch.nn.Linear(2, 3)).dtype
        torch.float32
    """

    def __init__(
        self, inferer: Inferer, dtype: str | torch.dtype = "bfloat16", enabled: bool | Literal["auto"] = "auto"
    ) -> None:
        name = str(dtype).removeprefix("torch.")
        if name not in _HALF_TYPES:
            raise ValueError(
                f"Expected dtype bfloat16 or float16, got {name}. For full precision set enabled to False."
            )
        if enabled not in ("auto", True, False):
            raise ValueError(f'Expected enabled "auto", true or false, got {enabled!r}. Correct `enabled`.')
        self.inferer = inferer
        self.dtype = _HALF_TYPES[name]
        self.enabled = enabled

    def __call__(self, inputs: torch.Tensor, network: Callable[..., torch.Tensor], *args: Any, **kwargs: Any) -> Any:
        """Run the inferer on a batch (B, C, ...); its output is converted to float32."""
        device = inputs.device.type
        if not self._is_on(device):
            return apply_to_tensor(self.inferer(inputs, network, *args, **kwargs), torch.Tensor.float)
        with torch.autocast(device, dtype=self.dtype):
            outputs = self.inferer(inputs, network, *args, **kwargs)
        return apply_to_tensor(outputs, torch.Tensor.float)

    def _is_on(self, device: str) -> bool:
        if self.enabled == "auto":
            return device == "cpu" and self.dtype == torch.bfloat16 and cpu_computes_bfloat16()
        return bool(self.enabled)


def _onednn_takes_bfloat16() -> bool:
    return not torch.backends.mkldnn.is_available() or bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def _cpu_capabilities() -> Mapping[str, Any]:
    if hasattr(torch.cpu, "get_capabilities"):
        return torch.cpu.get_capabilities()
    names = {"avx512_bf16": "_is_avx512_bf16_supported", "amx_bf16": "_is_amx_tile_supported"}  # torch before 2.10
    return {name: getattr(torch.cpu, check)() for name, check in names.items() if hasattr(torch.cpu, check)}
