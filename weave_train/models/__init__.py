"""The video-language model: tower, projector, language model, and how it answers.

vision, projector, language, lora, tokenizer -> model
asking -> decoding -> answer_text -> generate; likelihood; video
"""
