"""Linear layers in fp32 on CPUs where PyTorch's default matrix library leaves half of the arithmetic unused.

On AMD processors with AVX-512, MKL takes its AVX2 kernels: 105 GFLOP/s per core against 235 for oneDNN, which PyTorch
ships too (Zen 5, 700 x 384 x 1536, fp32 in both; forward and both backward products alike). A 1x1 convolution, the
public way to oneDNN, was slower than MKL on one thread (85 to 100), so this uses the operator that `torch.compile`
emits.

The choice depends on the processor only, never on a measurement: a resumed run must repeat the same rounding.
"""

from __future__ import annotations

from collections import Counter
from functools import cache, partial
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn
from torch.nn import functional


@cache
def prefers_onednn() -> bool:
    """Whether oneDNN serves fp32 products better than MKL on this machine."""
    return (
        torch.backends.mkldnn.is_available()
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
        and torch.backends.cpu.get_cpu_capability() == "AVX512"
        and _cpu_vendor() == "AuthenticAMD"
    )


def linear(layer: nn.Module, inputs: torch.Tensor) -> torch.Tensor:
    """What `layer(inputs)` of an `nn.Linear` gives, up to rounding; inputs (T, in), output (T, out)."""
    if type(layer) is not nn.Linear or inputs.device.type != "cpu" or inputs.dtype != torch.float32:
        return cast(torch.Tensor, layer(inputs))
    if not prefers_onednn() or inputs.dim() != 2:
        return functional.linear(inputs, layer.weight, layer.bias)
    return cast(torch.Tensor, _OneDnnLinear.apply(inputs, layer.weight, layer.bias))


def product(inputs: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """inputs (T, in) @ weight (out, in).T on the quickest kernels, without autograd; views are fine."""
    on_cpu = inputs.device.type == "cpu" and inputs.dtype == weight.dtype == torch.float32
    return _product(inputs, weight) if on_cpu and prefers_onednn() else inputs @ weight.t()


def use_in(model: nn.Module) -> None:
    """Makes every plain `nn.Linear` inside a model compute as `linear` does, whatever the shape of its inputs."""
    if not prefers_onednn():
        return
    for layer in model.modules():
        if type(layer) is nn.Linear:
            layer.forward = partial(_forward, layer)


def _forward(layer: nn.Linear, inputs: torch.Tensor) -> torch.Tensor:
    if inputs.device.type != "cpu" or inputs.dtype != torch.float32 or layer.weight.dtype != torch.float32:
        return functional.linear(inputs, layer.weight, layer.bias)
    flat = cast(torch.Tensor, _OneDnnLinear.apply(inputs.flatten(0, -2), layer.weight, layer.bias))
    return flat.view(*inputs.shape[:-1], -1)


def pack_in(model: nn.Module, rows: int) -> None:
    """Lays out the fp32 weights of a model that only answers as oneDNN wants them, for products of `rows` rows.

    Zen 3, one core, SmolLM2-135M, 8 rows: all layers take 54 ms instead of 63, the LM head 11 instead of 25. Weights
    that no other module holds are freed, so they are there once.
    """
    if not hasattr(torch.ops.mkldnn, "_reorder_linear_weight") or not torch.backends.mkldnn.is_available():
        return
    layers = [layer for layer in model.modules() if type(layer) is nn.Linear]
    held = Counter(id(one) for module in model.modules() for one in module.parameters(recurse=False))
    for layer in layers:
        if layer.weight.device.type != "cpu" or layer.weight.dtype != torch.float32:
            continue
        packed = torch.ops.mkldnn._reorder_linear_weight(layer.weight.detach(), rows)  # noqa: SLF001
        layer.forward = partial(_packed_forward, packed, layer.out_features, layer.bias)
        if held[id(layer.weight)] == 1:
            layer.weight = nn.Parameter(torch.empty(0), requires_grad=False)


def _packed_forward(
    packed: torch.Tensor, outputs: int, bias: torch.Tensor | None, inputs: torch.Tensor
) -> torch.Tensor:
    return _product(inputs.flatten(0, -2), packed, bias).view(*inputs.shape[:-1], outputs)


def _product(inputs: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """inputs @ weight.T + bias; weight may be a transposed view."""
    return cast(torch.Tensor, torch.ops.mkldnn._linear_pointwise(inputs, weight, bias, "none", [], ""))  # noqa: SLF001


class _OneDnnLinear(torch.autograd.Function):  # type: ignore[misc]
    @staticmethod
    def forward(ctx: Any, inputs: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        ctx.save_for_backward(inputs, weight)
        return _product(inputs, weight, bias)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (gradient,) = gradients
        inputs, weight = ctx.saved_tensors
        needs_inputs, needs_weight, needs_bias = ctx.needs_input_grad
        return (
            _product(gradient, weight.t()) if needs_inputs else None,
            _product(gradient.t(), inputs.t()) if needs_weight else None,
            gradient.sum(0) if needs_bias else None,
        )


def _cpu_vendor() -> str:
    """The vendor as /proc/cpuinfo names it; empty where there is none."""
    cpuinfo = Path("/proc/cpuinfo")
    if not cpuinfo.exists():
        return ""
    lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("vendor_id")), "")
