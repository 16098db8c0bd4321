"""The text of a woven sample: captions joined, and the turns that ask for them.

    text_file       records of CSV, JSON, JSONL and Parquet files, known by content
    caption_file    captions and questions that somebody else wrote
    literal_questions   questions in VideoWeave's own files
    replacement     other captions for the same clips
    joins           captions of L clips -> one text
    prompts         which question each sample opens with
    conversations   prompt and text -> the turns VideoWeave and LLaVA train on
    questions       questions about single clips -> samples
    clip_questions  questions over the clips of one sample -> turns
    texts           everything a recipe's text settings name

Captions are used as the catalog or a caption file holds them; joining is all that changes them.
"""

from weave_data.caption.caption_file import CaptionFile, QuestionFile, read_caption_file, read_question_file
from weave_data.caption.clip_questions import ClipQuestions, ask_about_clips, is_clip_question
from weave_data.caption.conversations import IMAGE_TOKEN, make_conversations, make_dialogues
from weave_data.caption.joins import CaptionJoin, join_captions
from weave_data.caption.prompts import choose_prompts, prompt_pool
from weave_data.caption.questions import question_samples
from weave_data.caption.replacement import replace_captions
from weave_data.caption.texts import RecipeTexts, read_texts

__all__ = [
    "IMAGE_TOKEN",
    "CaptionFile",
    "CaptionJoin",
    "ClipQuestions",
    "QuestionFile",
    "RecipeTexts",
    "ask_about_clips",
    "choose_prompts",
    "is_clip_question",
    "join_captions",
    "make_conversations",
    "make_dialogues",
    "prompt_pool",
    "question_samples",
    "read_caption_file",
    "read_question_file",
    "read_texts",
    "replace_captions",
]
