"""Models from a hub: downloaded once, and nobody's token is sent where none is asked for."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from fake_hub import running_hub

_SCRIPT = Path(__file__).with_name("language_from_hub.py")
_TOKEN = "hf_of-a-test-0123456789"


def run(endpoint: str, home: Path, asked: list[tuple[str, str | None]], **environment: str) -> list[str]:
    result = subprocess.run(
        [sys.executable, str(_SCRIPT), json.dumps(asked)],
        env={
            **os.environ,
            "HF_ENDPOINT": endpoint,
            "HF_HOME": str(home),
            "HF_HUB_OFFLINE": "0",
            "PYTHONPATH": str(Path(__file__).parents[2]),
            **environment,
        },
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert _TOKEN not in result.stdout + result.stderr
    return result.stdout.strip().splitlines()


@pytest.mark.process
def test_models_are_downloaded_once_and_a_token_is_sent_only_to_gated_ones(
    small_language: Callable[[str], Path], tmp_path: Path
) -> None:
    free, gated, other = "microsoft/Phi-3-mini-4k-instruct", "google/gemma-2b-it", "google/gemma-7b-it"
    directories = {
        free: small_language("phi-3-instruct-4b"),
        gated: small_language("gemma-2b-instruct"),
        other: small_language("gemma-8b-instruct"),
    }
    token_file = tmp_path / "token"
    token_file.write_text(f"{_TOKEN}\n")
    with running_hub(directories, gated={gated: _TOKEN, other: _TOKEN}) as hub:
        asked = [
            ("phi-3-instruct-4b", str(token_file)),
            ("gemma-2b-instruct", str(tmp_path / "no-such-file")),
            ("gemma-2b-instruct", str(token_file)),
            ("gemma-8b-instruct", "MY_TOKEN"),
            (f"hf:{free}", None),
            ("phi-2-3b", str(token_file)),
        ]
        home = tmp_path / "home"
        phi, refused, gemma, named, again, missing = run(hub.url, home, asked, MY_TOKEN=_TOKEN)
        assert phi.startswith("Phi3ForCausalLM ")
        assert again == phi
        assert gemma.startswith("GemmaForCausalLM ")
        assert named.startswith("GemmaForCausalLM ")
        assert refused.startswith("DeviceError: ")
        assert "accept its licence there and name a file" in refused
        assert missing.startswith("DeviceError: ")
        assert all(token is None for _, path, token in hub.requests if free in path)
        assert any(token == _TOKEN for _, path, token in hub.requests if gated in path)
        for repository in directories:
            sent = hub.downloads(repository)
            assert sent.count("model.safetensors") == sent.count("config.json") == 1, sent
    # nobody answers any more: what was fetched is still here
    assert run(hub.url, home, [(f"hf:{free}", None)], HF_HUB_OFFLINE="1") == [phi]
