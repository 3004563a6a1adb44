"""`bench`: times a bundle's layers beside what this machine can reach, and beside its peers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import click

from tvm_conv3dt import runtime
from tvm_conv3dt.cli import bundles, contestants, options, output, progress
from tvm_conv3dt.cli.bench_results import BenchResults
from tvm_conv3dt.errors import VerificationError, describe
from tvm_conv3dt.files import real_path
from tvm_conv3dt.measure import peers
from tvm_conv3dt.measure.comparison import BESIDE, OURS, Comparison
from tvm_conv3dt.measure.contest import PATIENCE, Contest
from tvm_conv3dt.measure.peers import Peer
from tvm_conv3dt.runtime import Bundle
from tvm_conv3dt.runtime.library import check_content


class Peers(click.ParamType[tuple[str, ...]]):
    """Names of peers, with commas between them."""

    name = "peers"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, ...]:
        """Split and check the names."""
        if not isinstance(value, str):
            return value if isinstance(value, tuple) else ()
        names = [word.strip() for word in value.split(",")]
        for name in names:
            if name not in peers.PEERS:
                self.fail(f"{name!r} is not one of {', '.join(peers.PEERS)}", param, ctx)
        return tuple(dict.fromkeys(names))


@click.command("bench")
@click.argument("folder", metavar="DIR", type=options.BUNDLE)
@options.layers
@options.level
@click.option(
    "--seconds",
    type=click.FloatRange(min=0, min_open=True),
    default=2.0,
    show_default=True,
    help="How long to time each layer, all implementations together, about.",
)
@click.option(
    "--patience",
    type=click.FloatRange(min=0),
    default=PATIENCE,
    show_default=True,
    metavar="SECONDS",
    help="How long each layer may wait for moments in which nobody else has a part of the machine.",
)
@click.option(
    "--passes",
    type=click.IntRange(min=1),
    default=2,
    show_default=True,
    metavar="N",
    help="How often to time a layer at most: again, after all others, while it is disturbed.",
)
@options.threads
@click.option(
    "--against",
    type=Peers(),
    default=(),
    metavar="NAME,...",
    help=f"Time these installed frameworks in turns with the bundle: {', '.join(peers.PEERS)}.",
)
@click.option(
    "--beside",
    type=options.BUNDLE,
    metavar="DIR",
    help="Time another bundle too, of the same layers in another type.",
)
@click.option(
    "--stock-trials",
    type=click.IntRange(min=1),
    default=64,
    show_default=True,
    metavar="N",
    help="Trials of the peer tvm, which tunes TVM's own operator: some minutes a layer, once.",
)
@click.option(
    "-o",
    "--output",
    "results",
    type=options.FOLDER,
    metavar="DIR",
    help="Folder for bench.json, bench.md, layers.png and roofline.png.",
)
@options.as_json
def command(
    folder: Path,
    layer_names: tuple[str, ...],
    level: str | None,
    seconds: float,
    patience: float,
    passes: int,
    threads: int | None,
    against: tuple[str, ...],
    beside: Path | None,
    stock_trials: int,
    results: Path | None,
    as_json: bool,
) -> None:
    """Time a bundle's layers, beside this machine's own ceilings and other frameworks.

    Every implementation has a process of its own, the same threads and the same data, and is timed only after its
    result was checked; they take turns, and all others sleep meanwhile. A turn of anybody before or after which the
    machine's arithmetic was disturbed by others is taken again, while there is --patience. Where everybody has a quiet turn
    only quiet ones count; where somebody has none the layer is timed again after all others, in another of the --passes.
    The column out= is for op(x, out=y), whose output's memory is reused, and fresh for op(x). The peer tvm is TVM's own
    operator, tuned in TVM's own space; its results are kept in the cache (TVM_CONV3DT_CACHE). Of a bundle for GPUs all is on the first one, and
    PyTorch, which calls cuDNN there, is the peer: in both memory formats, and of float32 with and without TF32, each
    in a column of its own. --beside is for figures such as a bundle of bfloat16 layers over the same layers in float32: the
    other bundle gets the same values in its type, on the level that loading picks, and is no peer.

    \b
    Example:
      tvm-conv3dt bench bundle --against tensorflow,pytorch,onnxruntime,openvino -o results
      tvm-conv3dt bench halves --against pytorch,openvino --beside floats -o results
    """
    peers.check_installed(against)
    bundle, layers = bundles.load_layers(folder, layer_names, threads, level)
    for layer in layers:
        # A damaged file is the environment's fault, and not a layer that failed in its process.
        check_content(folder, bundle.kernel(layer.name).library)
    # The level by its name, so that both processes run the same one.
    place = (str(real_path(folder)), bundle.level.device)
    ours = Peer("tvm_conv3dt.cli.bundle_peer", arguments=place)
    kind = bundle.manifest.platform.kind
    workloads, features = [layer.workload for layer in layers], bundle.level.cpu_features
    others = contestants.beside(kind, against, workloads, stock_trials, features)
    second = None if beside is None else _load_beside(beside)
    if second is not None:
        place = (str(real_path(second.path)), second.level.device)
        others = replace(others, peers={**others.peers, BESIDE: replace(ours, arguments=place)})
    found: dict[str, Comparison] = {}
    with (
        progress.steps("timing", total=len(layers)) as steps,
        Contest(
            ours,
            others.peers,
            runtime.get_num_threads(),
            others.machine,
            lambda name, text: steps.remark(f"{name}: {text}"),
            others.watched,
            patience,
        ) as contest,
    ):
        try:
            left = layers
            for number in range(passes):
                if number:
                    left = [layer for layer in layers if found[layer.name].disturbed]
                    steps.extend(len(left))
                for layer in left:
                    steps.begin(f"timing {layer.name}{' again' if number else ''}")
                    workspace = bundle.kernel(layer.name).workspace_bytes
                    arguments = (layer.name, layer.workload, workspace, seconds)
                    found[layer.name] = contest.layer(*arguments)
        except BaseException:
            if results is not None and found:
                BenchResults.of(bundle, second, others, contest, found.values()).write(results)
                steps.remark(f"stopped after {len(found)} of {len(layers)} layers")
            raise
        run = BenchResults.of(bundle, second, others, contest, found.values())
    if results is not None:
        run.write(results)
    if as_json:
        output.write_json(run.figures())
    else:
        run.show()
    _raise_if_failed(run.layers)


def _load_beside(folder: Path) -> Bundle:
    bundle = runtime.load(folder)
    for layer in bundle.layers:
        check_content(folder, bundle.kernel(layer.name).library)
    return bundle


def _raise_if_failed(found: Sequence[Comparison]) -> None:
    for each in found:
        if OURS in each.failures:
            failure = each.failures[OURS]
            rule = f"{failure.kind}: {failure.message}"
            raise VerificationError(describe("time", "layer", each.name, rule))
