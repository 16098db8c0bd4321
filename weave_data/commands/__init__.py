"""Commands of `weave-data`, one file each; `register(app)` adds a file's command to the command line.

terminal   what they share: where to print, options, one-line errors
findings   reports of `doctor`, which weave-train prints as well
"""

from __future__ import annotations

from importlib import import_module

import typer

__all__ = ["register_all"]

_COMMANDS = (
    "submit",
    "doctor",
    "status",
    "explain",
    "diff",
    "report",
    "export",
    "enrich",
    "retry",
    "remove",
    "gc",
    "download",
    "mix",
    "train",
)
"""In the order in which `weave-data --help` lists them."""


def register_all(app: typer.Typer) -> None:
    """Add every command of this room."""
    for name in _COMMANDS:
        import_module(f"weave_data.commands.{name}").register(app)
