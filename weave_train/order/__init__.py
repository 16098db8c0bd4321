"""Which row each slot of each global batch reads; a rank owns a range of slots.

addresses      GroupKey, RowAddress, rank_slots; `BatchOrder`, what every order can say
permutation    keyed permutations without tables
lanes          the order of training: arithmetic, without state
mixture        several data sets, each with its slots of every batch
legacy         VideoWeave's sampler: one modality a batch, grouped by length
build          the order a configuration asks for
"""

from weave_train.order.addresses import BatchOrder, GroupKey, RowAddress, rank_slots
from weave_train.order.build import GroupedRows, build_order
from weave_train.order.lanes import EpochOrder, TrainingOrder
from weave_train.order.legacy import LegacyOrder, split_modality_batches
from weave_train.order.mixture import MixtureOrder, MixturePart, deal_slots
from weave_train.order.permutation import ORDER_VERSION, permute

__all__ = [
    "ORDER_VERSION",
    "BatchOrder",
    "EpochOrder",
    "GroupKey",
    "GroupedRows",
    "LegacyOrder",
    "MixtureOrder",
    "MixturePart",
    "RowAddress",
    "TrainingOrder",
    "build_order",
    "deal_slots",
    "permute",
    "rank_slots",
    "split_modality_batches",
]
