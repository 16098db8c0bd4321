"""Records put together and turned around before they are woven.

image_to_video   samples about one image as video samples of one frame or two (the VideoWeave way)
"""

from weave_data.mixtures.image_to_video import Conversion, ImageToVideo, convert_images

__all__ = ["Conversion", "ImageToVideo", "convert_images"]
