"""Which row each slot of each global batch reads; a rank owns a range of slots.

addresses      GroupKey, RowAddress, rank_slots; `BatchOrder`, what every order can say
permutation    keyed permutations without tables
lanes          the order of training: arithmetic, without state
"""

from weave_train.order.addresses import BatchOrder, GroupKey, RowAddress, rank_slots
from weave_train.order.lanes import EpochOrder, TrainingOrder
from weave_train.order.permutation import ORDER_VERSION, permute

__all__ = [
    "ORDER_VERSION",
    "BatchOrder",
    "EpochOrder",
    "GroupKey",
    "RowAddress",
    "TrainingOrder",
    "permute",
    "rank_slots",
]
