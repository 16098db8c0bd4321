"""The text of a woven sample: captions joined, and the turns that ask for them.

    joins           captions of L clips -> one text
    conversations   prompt and text -> the turns VideoWeave and LLaVA train on

Captions are used as the catalog holds them; nothing is cleaned here.
"""

from weave_data.caption.conversations import IMAGE_TOKEN, make_conversations
from weave_data.caption.joins import CaptionJoin, join_captions
from weave_data.caption.prompts import choose_prompts, prompt_pool

__all__ = [
    "IMAGE_TOKEN",
    "CaptionJoin",
    "choose_prompts",
    "join_captions",
    "make_conversations",
    "prompt_pool",
]
