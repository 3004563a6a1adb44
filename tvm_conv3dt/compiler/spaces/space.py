"""The design space of a device: one for each kind of target, all of the same form."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from tvm_conv3dt.compiler.definition import AnyLayout
from tvm_conv3dt.compiler.spaces import cuda, default_point, gpu_default_point, llvm
from tvm_conv3dt.compiler.spaces.point import AnyPoint, GpuPoint, Point
from tvm_conv3dt.device import Device
from tvm_conv3dt.spec import Workload

__all__ = ["Space", "space_of"]


@dataclass(frozen=True)
class Space:
    """A design space.

    Attributes
    ----------
    point : type
        Of its points: every decision, by name.
    layout_of : callable
        ``layout_of(workload, device, formulation)`` gives the layout that a formulation names.
    families : callable
        ``families(layout, device)`` gives the structural choices, one MetaSchedule space each.
    apply : callable
        ``apply(schedule, layout, device, family, choose)`` schedules an operator in place.
    default_points : callable
        ``default_points(workload, device)`` gives the points expected to be the fastest of their formulations, the
        fastest first.
    within_bounds : callable
        ``within_bounds(layout, device, point)`` says whether the copies that a point makes are allowed with the cores that
        a device has.
    """

    point: type[AnyPoint]
    layout_of: Callable[[Workload, Device, str], AnyLayout]
    families: Callable[..., Iterable[Any]]
    apply: Callable[..., None]
    default_points: Callable[..., list[Any]]
    within_bounds: Callable[..., bool]


_LLVM = Space(
    Point,
    llvm.layout_of,
    llvm.families,
    llvm.apply,
    default_point.default_points,
    llvm.within_bounds,
)
_CUDA = Space(
    GpuPoint,
    cuda.layout_of,
    cuda.families,
    cuda.apply,
    gpu_default_point.default_points,
    within_bounds=lambda *_: True,  # nothing is copied
)


def space_of(device: Device) -> Space:
    """Return the design space of a device's kind."""
    return _CUDA if device.kind == "cuda" else _LLVM
