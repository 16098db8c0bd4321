"""Records put together and turned around before they are woven.

image_to_video   samples about one image as video samples of one frame or two (the VideoWeave way)
spool            records on disk, put out in any order
merges           LVIS-Instruct4V and LRV-Instruct with LLaVA-1.5, in the published order
weighted         any files of records, by weight
"""

from weave_data.mixtures.image_to_video import Conversion, ImageToVideo, convert_images
from weave_data.mixtures.merges import merge_lrv, merge_lvis4v, strip_text_only
from weave_data.mixtures.weighted import mix_weighted, weighted_counts

__all__ = [
    "Conversion",
    "ImageToVideo",
    "convert_images",
    "merge_lrv",
    "merge_lvis4v",
    "mix_weighted",
    "strip_text_only",
    "weighted_counts",
]
