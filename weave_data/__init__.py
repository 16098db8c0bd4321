"""A dataset compiler for video-language training."""
