"""Every vision id as a small tower of its own family, for tests that build many models.

    def test_x(monkeypatch):
        shrink_towers(monkeypatch)       # or the fixture `small_towers`

A small tower has two blocks of width 32, prefix tokens, layers, transform and members of the real one, and
its patch grid shrunken to 2 x 2 (3 x 3 where the real grid is odd), with the pixels that the real grid leaves
over. Its weights are random, also where the settings say `pretrained`.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from weave_train.towers import TOWERS, MemberSpec, TowerSpec

__all__ = ["SMALL_DIM", "shrink_towers", "small_tower"]

SMALL_DIM = 32
"""Width of a member; a fused tower has twice that."""

_SMALL = {"depth": 2, "embed_dim": SMALL_DIM, "num_heads": 2}


def _small_member(member: MemberSpec) -> MemberSpec:
    return replace(member, dim=SMALL_DIM, timm_kwargs={**member.timm_kwargs, **_SMALL})


def small_tower(spec: TowerSpec, *, has_hub_weights: bool = False) -> TowerSpec:
    """A spec like `spec`, of a tower that builds in a few hundredths of a second."""
    patch_px = spec.members[0].patch_px
    image_px = patch_px * (2 + spec.grid % 2) + spec.image_px % patch_px
    members = tuple(_small_member(member) for member in spec.members)
    return replace(spec, image_px=image_px, members=members, has_hub_weights=has_hub_weights)


def shrink_towers(patch: pytest.MonkeyPatch) -> None:
    """Put a small tower in the place of each in `TOWERS`, in this process, until `patch` is undone.

    `+pool2` behind an id works on the small one; `timm:NAME` stays as large as TIMM makes it.
    """
    for name, spec in list(TOWERS.items()):
        patch.setitem(TOWERS, name, small_tower(spec))
