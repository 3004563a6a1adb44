"""Points of a design space for CPUs that differ in what code they make."""

from tvm_conv3dt.compiler.spaces import llvm


def one_in_turn(points, turn):
    """One of some points, as a list: which, goes from case to case."""
    return [points[turn % len(points)]]


def of_each_order(workload, device, formulation):
    """One point of each order of the loops."""
    layout = llvm.layout_of(workload, device, formulation)
    found = {}
    for family in llvm.families(layout, device):
        found.update({p.order: p for p in llvm.points_of(layout, device, family)})
    return list(found.values())
