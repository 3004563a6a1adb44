"""What verbs print: data on stdout, everything else on stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from typing import TextIO

import click
from rich.console import Console
from rich.table import Table

# Columns where there is no terminal to ask: enough for an id and its figures on one line.
_WIDTH_IN_A_FILE = 160


def stdout() -> Console:
    """Console for data."""
    return _console(sys.stdout)


def stderr() -> Console:
    """Console for progress and remarks."""
    return _console(sys.stderr)


def write_json(value: Mapping[str, object]) -> None:
    """Write one JSON object to stdout."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False))


def write_fields(fields: Mapping[str, object]) -> None:
    """Write names and values, one a line, to stdout."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold", no_wrap=True)
    grid.add_column(overflow="fold")
    for name, value in fields.items():
        grid.add_row(name, str(value))
    stdout().print(grid)


def write_table(columns: Sequence[str], rows: Sequence[Sequence[object]], title: str = "") -> None:
    """Write a table to stdout; columns whose name starts with `>` are right-aligned."""
    table = Table(title=title or None, title_justify="left", box=None, padding=(0, 2, 0, 0))
    for name in columns:
        right = name.startswith(">")
        table.add_column(
            name.removeprefix(">"), justify="right" if right else "left", overflow="fold"
        )
    for row in rows:
        table.add_row(*(str(value) for value in row))
    stdout().print(table)


def write_line(text: str = "") -> None:
    """Write one line to stdout."""
    click.echo(text)


def remark(text: str) -> None:
    """Write one line to stderr."""
    stderr().print(text, soft_wrap=True)


def _console(file: TextIO) -> Console:
    # No markup: ids, shapes and messages hold brackets of their own.
    return Console(
        file=file,
        highlight=False,
        markup=False,
        emoji=False,
        width=None if file.isatty() else _WIDTH_IN_A_FILE,
    )
