"""Where candidates are measured: on this machine, or on a fleet of boards."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tvm_conv3dt import threads as cores
from tvm_conv3dt.compiler.fleet.measurer import FleetMeasurer
from tvm_conv3dt.compiler.fleet.recruiter import FleetSettings
from tvm_conv3dt.compiler.search.measurer import AnyMeasurer, Measurer
from tvm_conv3dt.device import Device
from tvm_conv3dt.errors import DeviceError, describe

__all__ = ["measurer_for"]


@contextmanager
def measurer_for(
    device: Device,
    threads: int | None,
    fleet: FleetSettings | None,
    tell: Callable[[str], None] | None = None,
) -> Iterator[AnyMeasurer]:
    """Make a measurer for a device, and close it at the end.

    Parameters
    ----------
    device : Device
        What candidates are compiled for.
    threads : int or None
        What they run on; None for all that this process may use, or as many as the boards have cores.
    fleet : FleetSettings or None
        The boards to measure on; None for this machine.
    tell : callable, optional
        Told in one sentence of what the user should know.

    Raises
    ------
    DeviceError
        If this machine is to run the device's code, and cannot, or has fewer cores than `threads`.
    UnsupportedError
        If a fleet is to run code for GPUs.
    CompilerMissingError
        If nothing links for the boards.
    """
    if fleet is None:
        most = cores.available()
        count = most if threads is None else threads
        if not 1 <= count <= most:
            rule = f"it must be from 1 to {most}, the cores that this process may use"
            raise DeviceError(describe("measure", "candidates", f"threads={count}", rule))
        with Measurer(count, device.kind) as here:
            here.require_runnable(device)
            yield here
        return
    count = device.cores if threads is None else threads
    with FleetMeasurer(device, count, fleet, tell or (lambda _: None)) as there:
        yield there
