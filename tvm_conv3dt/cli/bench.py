"""`bench`: times a bundle's layers beside what this machine can reach, and beside its peers."""

from __future__ import annotations

from pathlib import Path

import click

from tvm_conv3dt.cli import bundles, options, output, progress, speed
from tvm_conv3dt.measure import ceiling, peers, picture, report


@click.command("bench")
@click.argument("folder", metavar="DIR", type=options.BUNDLE)
@options.layers
@click.option(
    "--seconds",
    type=click.FloatRange(min=0, min_open=True),
    default=2.0,
    show_default=True,
    help="How long to time each layer, about.",
)
@options.threads
@click.option(
    "--peer",
    "peer_names",
    type=click.Choice(sorted(peers.PEERS)),
    multiple=True,
    help="Time this installed framework in turns with the bundle; may be repeated.",
)
@click.option(
    "--picture", "picture_file", type=options.FILE, metavar="FILE.png", help="Draw the figures."
)
@options.as_json
def command(
    folder: Path,
    layer_names: tuple[str, ...],
    seconds: float,
    threads: int | None,
    peer_names: tuple[str, ...],
    picture_file: Path | None,
    as_json: bool,
) -> None:
    """Time a bundle's layers, beside this machine's own ceilings.

    Times are of op(x, out=y): filters are packed before, and the output's memory is reused. A share
    above 100 % means that the layer's data stayed in the caches.

    \b
    Example:
      tvm-conv3dt bench bundle --layer nnunet/up3 --peer tensorflow --picture bench.png
    """
    bundle, layers = bundles.load_layers(folder, layer_names, threads)
    rows = []
    with progress.steps("measuring", total=len(layers) + 1) as steps:
        steps.begin("measuring this machine's ceilings")
        ceilings = ceiling.measure(threads)
        for layer in layers:
            steps.begin(f"timing {layer.name}")
            rows.append(speed.row(layer, {"tvm_conv3dt": bundle}, seconds, peer_names))
    if as_json:
        output.write_json({"bundle": str(folder), **report.to_dict(rows, ceilings)})
    else:
        output.stdout().print(report.table(rows, ceilings))
    if picture_file is not None:
        picture.draw(picture_file, rows, ceilings, f"{folder} on {bundle.manifest.device.name}")
        output.remark(f"wrote {picture_file}")
