"""docs/troubleshooting.md is current, complete, and every row is produced by a test."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from weave_data import errors
from weave_data.records import RejectReason
from weave_data.troubleshooting import page
from weave_data.troubleshooting_rows import ERRORS, REASONS

ROOT = Path(__file__).resolve().parents[2]


def test_the_page_is_current():
    stored = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    assert stored == page(), "run: python -m weave_data.troubleshooting > docs/troubleshooting.md"


def test_every_error_and_every_reason_has_a_row():
    assert {row.subject for row in ERRORS} == set(errors.__all__) - {"WeaveError"}
    assert [row.subject for row in REASONS] == [reason.value for reason in RejectReason]


@pytest.mark.parametrize("row", [*ERRORS, *REASONS], ids=lambda row: f"{row.subject}: {row.shown}")
def test_the_named_test_produces_the_row(row):
    file, _, name = row.test.partition("::")
    text = (ROOT / "tests" / file).read_text(encoding="utf-8")
    tests = [node.name for node in ast.parse(text).body if isinstance(node, ast.FunctionDef)]
    assert name in tests
    plain = text.replace("\\", "")
    assert row.shown in plain or f"RejectReason.{row.shown.upper()}" in plain
