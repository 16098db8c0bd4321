"""Claims about the prompts of samples."""

from __future__ import annotations

from collections import Counter

import pyarrow as pa
import pytest

from weave_data.caption import choose_prompts, make_conversations, prompt_pool
from weave_data.caption.prompts import shipped_prompts
from weave_data.config.captions import PromptsConfig
from weave_data.config.recipe import DEFAULT_PROMPT
from weave_data.errors import SourceError

KEYS = pa.array([f"sample {index}" for index in range(6000)])


def test_every_prompt_is_chosen_equally_often() -> None:
    counts = Counter(choose_prompts(["a", "b", "c"], KEYS, seed=7).to_pylist())
    assert set(counts) == {"a", "b", "c"}
    assert all(abs(count - 2000) < 200 for count in counts.values())  # 5.5 standard deviations


def test_a_choice_depends_on_the_key_and_the_seed_alone() -> None:
    chosen = choose_prompts(["a", "b", "c"], KEYS, seed=7)
    assert choose_prompts(["a", "b", "c"], KEYS[100:110], seed=7).equals(chosen[100:110])
    assert not choose_prompts(["a", "b", "c"], KEYS, seed=8).equals(chosen)


def test_the_pool_is_the_default_and_k_minus_one_others() -> None:
    pool = prompt_pool(PromptsConfig(k=4), DEFAULT_PROMPT)
    assert pool[0] == DEFAULT_PROMPT
    assert len(set(pool)) == 4
    assert set(pool) <= set(shipped_prompts())
    assert prompt_pool(PromptsConfig(k=4, seed=8), DEFAULT_PROMPT) != pool


def test_the_order_of_a_list_decides_nothing_and_quotes_are_straight() -> None:
    choices = ["What’s “this”?", "Why?", "Who?", " Who? ", ""]  # noqa: RUF001
    pool = prompt_pool(PromptsConfig(choices=choices, k=3), "Default?")
    assert pool == prompt_pool(PromptsConfig(choices=choices[::-1], k=3), "Default?")
    assert set(prompt_pool(PromptsConfig(choices=choices), "Who?")) == {"What's 'this'?", "Why?", "Who?"}


def test_a_file_of_prompts_is_read_by_line(tmp_path) -> None:
    (tmp_path / "prompts.txt").write_text("One?\nTwo?\n", encoding="utf-8")
    assert prompt_pool(PromptsConfig(file=str(tmp_path / "prompts.txt")), "D") == ("D", "One?", "Two?")


def test_too_few_prompts_are_an_error() -> None:
    with pytest.raises(SourceError, match=r"prompts.k: 5 asked for.*lower k to 2"):
        prompt_pool(PromptsConfig(choices=["One?"], k=5), "D")


def test_the_shipped_list_has_at_least_ten_distinct_prompts() -> None:
    assert len(set(shipped_prompts())) >= 10


def test_every_sample_may_have_its_own_prompt() -> None:
    turns = make_conversations(pa.array(["P?", "Q?"]), pa.array(["a", "b"]))
    assert [[turn["value"] for turn in sample] for sample in turns.to_pylist()] == [
        ["<image>\nP?", "a"],
        ["<image>\nQ?", "b"],
    ]
    with pytest.raises(ValueError, match="2 prompts for 1 answers"):
        make_conversations(pa.array(["P?", "Q?"]), pa.array(["a"]))
