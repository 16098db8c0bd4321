"""Vision ids: which towers, how many pixels they take and how many tokens a frame becomes.

    id -> TowerSpec: table (VideoWeave's eighteen and video-tiny-vit) | timm:NAME | ID+pool2

No torch is loaded here, but for `timm:NAME`, which asks timm.
"""

from weave_train.towers.lookup import num_visual_tokens, tower_spec
from weave_train.towers.spec import MemberSpec, TowerSpec
from weave_train.towers.table import TOWERS

__all__ = ["TOWERS", "MemberSpec", "TowerSpec", "num_visual_tokens", "tower_spec"]
