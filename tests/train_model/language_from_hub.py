"""Builds language models from the hub that HF_ENDPOINT names, and prints what came of each."""

from __future__ import annotations

import json
import sys

from weave_data.errors import WeaveError
from weave_train.config import ModelSettings
from weave_train.models.language import LanguageOptions, build_language_model
from weave_train.models.tokenizer import resolve_tokenizer

for llm_backbone_id, hf_token in json.loads(sys.argv[1]):
    settings = ModelSettings(llm_backbone_id=llm_backbone_id, llm_max_length=256)
    try:
        tokenizer = resolve_tokenizer(settings, [], hf_token=hf_token)
        model = build_language_model(settings, tokenizer, options=LanguageOptions(hf_token=hf_token))
        sys.stdout.write(f"{type(model).__name__} {float(model.model.norm.weight.sum())}\n")
    except WeaveError as error:
        sys.stdout.write(f"{type(error).__name__}: {error}\n")
