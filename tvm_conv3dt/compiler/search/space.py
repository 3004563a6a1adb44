"""The design space as MetaSchedule takes it: a space generator, and the one mutator it needs."""

from __future__ import annotations

import random
from typing import Any

from tvm import s_tir
from tvm.ir.utils import derived_object
from tvm.s_tir import meta_schedule as ms

from tvm_conv3dt.compiler.definition import AnyLayout
from tvm_conv3dt.compiler.spaces.space import space_of
from tvm_conv3dt.device import Device

__all__ = ["generator"]


@derived_object
class MutateSample(ms.mutator.PyMutator):  # type: ignore[misc]
    """Draws one decision of a trace anew.

    MetaSchedule's own mutators know perfect tilings only; ours leave a tail where that is faster.
    """

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.random = random.Random(seed)

    def _initialize_with_tune_context(self, context: ms.TuneContext) -> None:
        pass

    def apply(self, trace: s_tir.schedule.Trace, _: Any) -> s_tir.schedule.Trace | None:
        """Return the trace with one other decision, or None where there is nothing to decide."""
        samples = [
            inst
            for inst in trace.insts
            if inst.kind.name == "SampleCategorical" and len(inst.attrs[0]) > 1
        ]
        if not samples:
            return None
        inst = self.random.choice(samples)
        others = set(range(len(inst.attrs[0]))) - {int(trace.get_decision(inst))}
        return trace.with_decision(inst, self.random.choice(sorted(others)), remove_postproc=True)

    def clone(self) -> ms.mutator.PyMutator:
        """Return a mutator that draws differently."""
        return MutateSample(self.random.randrange(2**31))


def generator(layout: AnyLayout, device: Device, seed: int) -> ms.space_generator.ScheduleFn:
    """Return the space generator of a layout on `device`: one design space per structural choice."""

    def spaces(sch: s_tir.Schedule) -> list[s_tir.Schedule]:
        result = []
        space = space_of(device)
        for family in space.families(layout, device):
            each = sch.copy()
            space.apply(each, layout, device, family, lambda name, candidates: None)
            result.append(each)
        return result

    return ms.space_generator.ScheduleFn(
        spaces, sch_rules=[], postprocs=[], mutator_probs={MutateSample(seed): 1.0}
    )
