"""Which clips may share a sample, and by which centroids they are grouped."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from weave_data.config.loading import StrictModel

__all__ = ["GroupsConfig"]


class GroupsConfig(StrictModel):
    """Rules for groups, of every recipe.

    Clips that look alike from the cosine `near_duplicates` on never share a sample; null: they may.
    `same_page: forbid` keeps clips of one source page (uploader, folder) apart, clips of no known page
    excepted. `centroids: frozen` fits centroids once, commits them and groups a grown catalog by the same
    ones; `fit` learns them from the clips at hand.
    """

    near_duplicates: Annotated[float, Field(gt=0.0, le=1.0)] | None = None
    same_page: Literal["allow", "forbid"] = "allow"
    centroids: Literal["fit", "frozen"] = "fit"
