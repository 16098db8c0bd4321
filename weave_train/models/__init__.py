"""The video-language model: tower, projector, language model, and how it answers.

vision, projector, language, tokenizer -> model -> generate, video
"""
