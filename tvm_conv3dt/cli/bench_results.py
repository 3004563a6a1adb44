"""What `bench` has found, as files and on the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tvm_conv3dt.cli import output
from tvm_conv3dt.cli.contestants import Contestants
from tvm_conv3dt.files import real_path, write_atomic, write_json
from tvm_conv3dt.measure import comparison_picture, comparison_report
from tvm_conv3dt.measure.ceiling import Ceilings
from tvm_conv3dt.measure.comparison import Comparison
from tvm_conv3dt.measure.contest import Contest
from tvm_conv3dt.measure.watch import Turns
from tvm_conv3dt.runtime import Bundle

__all__ = ["BenchResults"]


@dataclass(frozen=True)
class BenchResults:
    """The layers of a bundle that were timed, and what limits them."""

    bundle: Bundle
    second: Bundle | None
    columns: tuple[str, ...]
    layers: Sequence[Comparison]
    ceilings: Ceilings
    turns: Turns
    versions: Mapping[str, str]

    @classmethod
    def of(
        cls,
        bundle: Bundle,
        second: Bundle | None,
        others: Contestants,
        contest: Contest,
        layers: Iterable[Comparison],
    ) -> BenchResults:
        """Return the results of a contest that has timed at least one layer."""
        ceilings, columns = others.complete(contest.ceilings()), tuple(others.peers)
        return cls(
            bundle, second, columns, tuple(layers), ceilings, contest.turns, contest.versions
        )

    def write(self, folder: Path) -> None:
        """Write ``bench.json``, ``bench.md`` and, where there is matplotlib, pictures."""
        write_json(folder / "bench.json", self.figures())
        text = comparison_report.markdown(self.layers, self.ceilings, self.columns, self.turns)
        write_atomic(folder / "bench.md", f"{self._title}\n\n{text}")
        if comparison_picture.available():
            figures = (self.layers, self.ceilings, self.columns, self._title)
            comparison_picture.draw_layers(folder / "layers.png", *figures)
            comparison_picture.draw_roofline(folder / "roofline.png", *figures)
        else:
            output.remark('no pictures: they need pip install "tvm-conv3dt[plot]"')
        output.remark(f"wrote {folder}")

    def show(self) -> None:
        """Write a table, and what is to be said about it, to stdout."""
        output.write_line(self._title)
        output.stdout().print(comparison_report.table(self.layers, self.ceilings, self.columns))
        for line in comparison_report.remarks(self.layers, self.ceilings, self.columns, self.turns):
            output.write_line(line)

    def figures(self) -> dict[str, Any]:
        """Return all of it as JSON's values."""
        beside = None if self.second is None else _names(self.second)
        found = comparison_report.to_dict(self.layers, self.ceilings, self.versions, self.turns)
        return {**_names(self.bundle), "beside": beside, **found}

    @property
    def _title(self) -> str:
        title = "{bundle}, level {level}, ".format(**_names(self.bundle))
        title += self.ceilings.gpu or f"{self.ceilings.threads} threads"
        if self.second is not None:
            title += ", beside {bundle}, level {level}".format(**_names(self.second))
        return title


def _names(bundle: Bundle) -> dict[str, str]:
    return {"bundle": real_path(bundle.path).name, "level": bundle.level.device}
