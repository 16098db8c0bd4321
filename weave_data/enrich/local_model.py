"""Asking a transformers model in this process: greedy, batches of like length, padded on the left."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from weave_data.config.enrich import AnswersConfig, LocalModelConfig
from weave_data.enrich.answers import Answer, check_answer, commit_answers
from weave_data.enrich.asks import Prompt
from weave_data.errors import DeviceError
from weave_data.storage import Store
from weave_data.tables import sha256_hex

__all__ = ["LocalModel", "answer_locally", "model_sha256"]

_MODEL_FILES = (".safetensors", ".json", ".model", ".jinja")


def answer_locally(asks: list[dict[str, str]]) -> list[dict[str, str]]:
    """What an executor's CPU side does before a model's actors: nothing."""
    return asks


def model_sha256(path: str) -> str:
    """Stands for weights, tokenizer and settings of a model folder.

    Raises:
        DeviceError: The folder holds no safetensors weights.
    """
    files = sorted(file for file in Path(path).glob("*") if file.suffix in _MODEL_FILES)
    if not any(file.suffix == ".safetensors" for file in files):
        raise DeviceError(f"model.path: {path} holds no .safetensors weights; save the model there first")
    sums = "\n".join(f"{file.name} {sha256_hex(file)}" for file in files)
    return hashlib.sha256(sums.encode()).hexdigest()


class LocalModel:
    """A loaded model; called with a chunk of asks, it answers, checks and commits them.

    Args:
        config: Where it lies and how many prompts go through at once.
        answers: Parameters and rules.
        prompts: By kind.
        store: The output.
        key: Of the answers.
        device: `cpu` or `cuda`.

    Raises:
        DeviceError: The folder can't be loaded.
    """

    def __init__(
        self,
        config: LocalModelConfig,
        answers: AnswersConfig,
        prompts: dict[str, Prompt],
        store: Store,
        key: str,
        device: str,
    ) -> None:
        from weave_data.torchvision_ops import install

        install()
        from transformers import AutoModelForCausalLM, AutoTokenizer

        self._config, self._answers, self._prompts = config, answers, prompts
        self._store, self._key, self._device = store, key, device
        try:
            tokenizer: Any = AutoTokenizer.from_pretrained(
                config.path, padding_side="left", trust_remote_code=False
            )
            model: Any = AutoModelForCausalLM.from_pretrained(config.path, trust_remote_code=False)
        except (OSError, ValueError) as error:
            raise DeviceError(
                f"model.path: {config.path} can't be loaded ({error}); check the folder"
            ) from error
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token
        self._tokenizer, self._model = tokenizer, model.to(device).eval()

    def __call__(self, asks: list[dict[str, str]]) -> tuple[int, int]:
        """Number of answers, and how many of them were refused."""
        step = self._config.batch_size
        answers = [
            answer
            for start in range(0, len(asks), step)
            for answer in self._batch(asks[start : start + step])
        ]
        commit_answers(self._store, self._key, answers)
        return len(answers), sum(answer.text is None for answer in answers)

    def _batch(self, asks: list[dict[str, str]]) -> list[Answer]:
        import torch

        texts = [self._text(self._prompts[ask["kind"]], ask["caption"]) for ask in asks]
        inputs = self._tokenizer(
            texts, return_tensors="pt", padding=True, add_special_tokens=not self._tokenizer.chat_template
        ).to(self._device)
        with torch.inference_mode():
            output = self._model.generate(
                input_ids=inputs["input_ids"],
                attention_mask=inputs["attention_mask"],
                do_sample=False,
                temperature=None,
                top_p=None,
                top_k=None,
                max_new_tokens=self._answers.max_tokens,
                pad_token_id=self._tokenizer.pad_token_id,
            )
        new_tokens = output[:, inputs["input_ids"].shape[1] :]
        said = self._tokenizer.batch_decode(new_tokens, skip_special_tokens=True)
        stops = self._stop_ids()
        checked = []
        for ask, text, tokens, mask in zip(
            asks, said, new_tokens.tolist(), inputs["attention_mask"], strict=True
        ):
            answer = check_answer(
                ask["ask_id"],
                ask["kind"],
                text,
                is_cut_off=stops.isdisjoint(tokens) and len(tokens) >= self._answers.max_tokens,
                config=self._answers,
            )
            num_new = next((place for place, token in enumerate(tokens, 1) if token in stops), len(tokens))
            checked.append(answer.after(Answer("", None, "", "", int(mask.sum()), num_new)))
        return checked

    def _text(self, prompt: Prompt, caption: str) -> str:
        if self._tokenizer.chat_template:
            messages = prompt.messages(caption)
            text: str = self._tokenizer.apply_chat_template(
                messages, tokenize=False, add_generation_prompt=True
            )
            return text
        return "\n\n".join(message["content"] for message in prompt.messages(caption)) + "\n"

    def _stop_ids(self) -> set[int]:
        stops = self._model.generation_config.eos_token_id
        if stops is None:
            stops = self._tokenizer.eos_token_id
        return set(stops) if isinstance(stops, list) else {stops}
