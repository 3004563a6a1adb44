"""Who `bench` times beside a bundle, by the kind of its code: peers, and the machine's ceilings."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from functools import partial

from tvm_conv3dt import paths, tile_state
from tvm_conv3dt.errors import UnsupportedError, describe
from tvm_conv3dt.measure import peers
from tvm_conv3dt.measure.ceiling import Ceilings
from tvm_conv3dt.measure.contest import BLAS_VARIABLES
from tvm_conv3dt.measure.gpu import Gpu
from tvm_conv3dt.measure.load import BFLOAT16, FMA, MATRIX
from tvm_conv3dt.measure.peers import GPU_PEERS, LESS_EXACT, Peer
from tvm_conv3dt.spec import Workload

__all__ = ["MACHINE", "Contestants", "beside"]

# TVM's threads spin for 0.1 s after their work, and so long a turn, or a probe beside one, would wait for them to rest.
_SPIN = ("TVM_THREAD_POOL_SPIN_COUNT", "1000")

MACHINE = Peer("tvm_conv3dt.cli.machine_peer", dropped=BLAS_VARIABLES, variables=(_SPIN,))
_STOCK = "tvm"  # the peer that must be tuned


@dataclass(frozen=True)
class Contestants:
    """Who is timed beside a bundle.

    Attributes
    ----------
    peers : mapping of str to Peer
        By name, in the order of the table's columns.
    machine : Peer
        What measures the ceilings.
    complete : callable
        Adds to the ceilings what is known of the machine and not measured, and leaves out what limits no layer.
    watched : tuple of str
        Which of the machine's loads tell whether it is disturbed.
    """

    peers: Mapping[str, Peer]
    machine: Peer
    complete: Callable[[Ceilings], Ceilings] = lambda ceilings: ceilings
    watched: tuple[str, ...] = ()


def beside(
    kind: str,
    against: Sequence[str],
    workloads: Iterable[Workload],
    stock_trials: int,
    features: Collection[str] = (),
) -> Contestants:
    """Return who is timed beside a bundle.

    Parameters
    ----------
    kind : str
        Of the bundle's code: ``"llvm"`` or ``"cuda"``.
    against : sequence of str
        The frameworks, by their names in `peers.PEERS`.
    workloads : iterable of Workload
        The layers.
    stock_trials : int
        Of the peer ``tvm``.
    features : collection of str
        The CPU features that the bundle's code uses.

    Raises
    ------
    UnsupportedError
        If a framework is not timed on GPUs, and the bundle is for these.
    """
    workloads = list(workloads)
    if kind == "cuda":
        return _on_a_gpu(against, {workload.dtype for workload in workloads})
    chosen = {name: peers.PEERS[name] for name in against}
    if _STOCK in chosen:
        arguments = (str(paths.user_cache() / "stock-tvm"), str(stock_trials))
        chosen[_STOCK] = replace(chosen[_STOCK], arguments=arguments)
    products = {workload.product_dtype for workload in workloads}
    # A matrix unit's other users slow down nothing else.
    watched = (FMA, BFLOAT16) if tile_state.FEATURE in features else (FMA,)
    return Contestants(chosen, MACHINE, partial(_of_products, products), watched)


def _of_products(products: Set[str], ceilings: Ceilings) -> Ceilings:
    return ceilings if "bfloat16" in products else replace(ceilings, bfloat16_gflops=None)


def _on_a_gpu(against: Sequence[str], dtypes: set[str]) -> Contestants:
    chosen: dict[str, Peer] = {}
    for name in against:
        if name not in GPU_PEERS:
            rule = f"of all frameworks only {', '.join(GPU_PEERS)} is timed on GPUs"
            mend = "leave it out, or time it beside a bundle for CPUs"
            raise UnsupportedError(describe("time", "peer", name, rule, mend))
        chosen |= GPU_PEERS[name]
    if "float32" not in dtypes:
        chosen = {name: peer for name, peer in chosen.items() if name not in LESS_EXACT}
    wanted = [FMA] * bool(dtypes - {"float16"}) + [MATRIX] * ("float16" in dtypes)
    machine = Peer("tvm_conv3dt.cli.gpu_machine_peer", arguments=tuple(wanted))
    return Contestants(chosen, machine, lambda ceilings: _of_a_gpu(ceilings, wanted))


def _of_a_gpu(ceilings: Ceilings, wanted: Sequence[str]) -> Ceilings:
    gpu = Gpu()
    ceilings = replace(ceilings, gpu=gpu.name)
    if ceilings.compute_limits:
        return ceilings
    plain, matrix = gpu.nominal()
    return replace(
        ceilings,
        fma_gflops=plain if FMA in wanted else None,
        matrix_gflops=matrix if MATRIX in wanted else None,
        nominal=True,
    )
