"""A token is read from a file or from a variable, and only its absence is ever said."""

from __future__ import annotations

from pathlib import Path

import pytest

from weave_data.errors import ConfigError
from weave_train.config.hub_token import read_hub_token


def test_a_file_or_a_variable_holds_it(tmp_path: Path, monkeypatch) -> None:
    file = tmp_path / "token"
    file.write_text("hf_of_file\n")
    monkeypatch.setenv("MY_TOKEN", "hf_of_variable")
    assert read_hub_token(str(file)) == "hf_of_file"
    assert read_hub_token("MY_TOKEN") == "hf_of_variable"


def test_without_the_default_file_there_is_none(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert read_hub_token(".hf_token") is None
    (tmp_path / ".hf_token").write_text("hf_default")
    assert read_hub_token(".hf_token") == "hf_default"


def test_what_was_asked_for_and_is_not_there_is_an_error(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.delenv("MY_TOKEN", raising=False)
    with pytest.raises(ConfigError, match="no file and no variable 'MY_TOKEN'"):
        read_hub_token("MY_TOKEN")
    (tmp_path / "empty").write_text(" \n")
    with pytest.raises(ConfigError, match="is empty; name a file"):
        read_hub_token(str(tmp_path / "empty"))
