"""Every block of docs/exports.md runs as written."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest
from small_exports import make_vlm, write_run

from weave_train import cli

PAGE = Path(__file__).parents[2] / "docs" / "exports.md"


def test_the_blocks_run(tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    write_run(make_vlm(tokenizer), tmp_path / "runs" / "first")
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```(\w+)\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert [kind for kind, _ in blocks] == ["sh", "sh", "python"]
    for kind, text in blocks:
        if kind == "python":
            exec(compile(text, "exports.md", "exec"), {})
            continue
        for line in text.splitlines():
            monkeypatch.setattr(sys, "argv", shlex.split(line))
            with pytest.raises(SystemExit) as ended:
                cli.main()
            assert not ended.value.code, line
    found = {str(path.parent.relative_to(tmp_path)) for path in tmp_path.rglob("config.json")}
    assert {"prismatic/first", "llava/first", "remote/first"} <= found
    assert Path("first.pt").is_file()
    shown = capsys.readouterr().out
    assert "llava/first: hf, step 30; logits within " in shown
    assert shown.splitlines()[-1].strip()  # an answer
