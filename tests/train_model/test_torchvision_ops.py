"""The torchvision cure acts only where the compiled operators are missing."""

from __future__ import annotations

import sys
import types

import pytest

from weave_data import torchvision_ops


@pytest.fixture
def declared(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names declared while a torchvision that is not loaded yet is imported."""
    import torch

    names: list[str] = []
    monkeypatch.setattr(torch.library, "define", lambda name, schema: names.append(name))
    monkeypatch.setattr(sys, "meta_path", [f for f in sys.meta_path if not _is_ours(f)])
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
        monkeypatch.delitem(sys.modules, name)
    return names


def _is_ours(finder: object) -> bool:
    return isinstance(finder, torchvision_ops._DeclareMissingOps)


def _fake_extension(has_ops: bool) -> types.ModuleType:
    extension = types.ModuleType("torchvision.extension")
    extension._has_ops = lambda: has_ops  # type: ignore[attr-defined]
    extension._check_cuda_version = lambda: -1  # type: ignore[attr-defined]
    return extension


def _find(name: str) -> None:
    for finder in list(sys.meta_path):
        if _is_ours(finder):
            finder.find_spec(name)


@pytest.mark.parametrize(
    ("has_ops", "expected"), [(False, ["torchvision::nms", "torchvision::qnms"]), (True, [])]
)
def test_schemas_are_declared_only_when_the_real_operators_did_not_load(
    declared: list[str], monkeypatch: pytest.MonkeyPatch, has_ops: bool, expected: list[str]
) -> None:
    torchvision_ops.install()
    monkeypatch.setitem(sys.modules, "torchvision.extension", _fake_extension(has_ops))
    _find("torchvision._meta_registrations")
    assert declared == expected
    assert not any(_is_ours(finder) for finder in sys.meta_path)


def test_nothing_is_declared_before_torchvision_has_tried_to_load_its_operators(declared: list[str]) -> None:
    torchvision_ops.install()
    for name in ("json", "torchvision", "torchvision.extension", "torchvision._internally_replaced_utils"):
        _find(name)
    assert declared == []


def test_installing_twice_leaves_one_hook(declared: list[str]) -> None:
    torchvision_ops.install()
    torchvision_ops.install()
    assert sum(_is_ours(finder) for finder in sys.meta_path) == 1


def test_installing_after_torchvision_is_loaded_does_nothing(
    declared: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torchvision", types.ModuleType("torchvision"))
    torchvision_ops.install()
    assert not any(_is_ours(finder) for finder in sys.meta_path)
