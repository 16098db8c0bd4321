"""Nothing read from data or a checkpoint is unpickled or run: a rule over the source, and attempts."""

from __future__ import annotations

import ast
import contextlib
import json
import pickle
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from planted import Mark
from stored_pieces import cut_evenly, write_checkpoint
from tiny_rows import CAPTIONS

from weave_data.config import EmbeddingConfig
from weave_data.embed import load_embedder
from weave_data.errors import WeaveError
from weave_data.storage import LocalStore
from weave_train import load
from weave_train.checkpoint.frozen import frozen_sha256, save_frozen
from weave_train.checkpoint.layout import step_key
from weave_train.config import ModelSettings
from weave_train.loading import model_parts, save_model_files
from weave_train.models.model import build_model
from weave_train.models.tokenizer import train_caption_tokenizer

ROOT = Path(__file__).resolve().parents[2]

UNPICKLERS = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
MAY_PICKLE = {"weave_data/execute/on_ray.py"}
"""Between our own driver and our own workers."""

MAY_RUN_CODE = {"weave_train/exports/export.py", "weave_train/exports/remote_form.py"}
"""Load, once more, what they wrote a moment before, to compare it."""


def dotted(node: ast.expr) -> str:
    match node:
        case ast.Name(id=name):
            return name
        case ast.Attribute(value=value, attr=attr):
            return f"{dotted(value)}.{attr}"
    return ""


def keyword(call: ast.Call, name: str) -> object:
    """Literal value of a keyword; `...` where it is given but no literal; None where it is not given."""
    for item in call.keywords:
        if item.arg == name:
            return item.value.value if isinstance(item.value, ast.Constant) else ...
    return None


def breaches(source: str, path: str) -> Iterator[str]:
    """What a module does that could run code from a file."""
    for node in ast.walk(ast.parse(source)):
        line = f"{path}:{getattr(node, 'lineno', 0)}"
        if isinstance(node, ast.Import | ast.ImportFrom) and path not in MAY_PICKLE:
            if imports(node):
                yield f"{line}: import"
        elif isinstance(node, ast.Call):
            yield from (f"{line}: {why}" for why in calls(node, path))
        elif isinstance(node, ast.Dict) and trusts(node) and path not in MAY_RUN_CODE:
            yield f"{line}: trust_remote_code"


def imports(node: ast.Import | ast.ImportFrom) -> bool:
    """Does it bring an unpickler? Its error alone is none."""
    if isinstance(node, ast.Import):
        return any(item.name.split(".")[0] in UNPICKLERS for item in node.names)
    unpickler = (node.module or "").split(".")[0] in UNPICKLERS
    return unpickler and {item.name for item in node.names} != {"UnpicklingError"}


def trusts(node: ast.Dict) -> bool:
    """Is it a dict of options with `trust_remote_code` that may be true?"""
    given = [
        value
        for key, value in zip(node.keys, node.values, strict=True)
        if isinstance(key, ast.Constant) and key.value == "trust_remote_code"
    ]
    return not all(isinstance(value, ast.Constant) and value.value is False for value in given)


def calls(call: ast.Call, path: str) -> Iterator[str]:
    name = dotted(call.func)
    first, last = name.split(".")[0], name.rpartition(".")[2]
    takes_more = any(item.arg is None for item in call.keywords)
    asks = last == "from_pretrained" and name.startswith("Auto") and not takes_more
    reads_torch = name == "torch.load" or (last == "load_state_dict" and isinstance(call.func, ast.Name))
    unsafe = {
        name: last in ("load", "loads") and first in UNPICKLERS and path not in MAY_PICKLE,
        f"{name} itself": last in ("read_pickle", "extractall") or name in ("eval", "exec", "yaml.load"),
        "without weights_only=True": reads_torch and keyword(call, "weights_only") is not True,
        "with allow_pickle": keyword(call, "allow_pickle") not in (None, False),
        "YAML that builds objects": last == "YAML" and keyword(call, "typ") != "safe",
        "with trust_remote_code": keyword(call, "trust_remote_code") not in (None, False)
        and path not in MAY_RUN_CODE,
        "may ask whether to run code": asks and keyword(call, "trust_remote_code") is None,
        "with a shell": keyword(call, "shell") not in (None, False),
    }
    yield from (f"{name}: {why}" for why, is_so in unsafe.items() if is_so)


def test_no_module_reads_pickles_or_runs_code_from_files() -> None:
    found = [
        breach
        for package in ("weave_data", "weave_train")
        for path in sorted((ROOT / package).rglob("*.py"))
        for breach in breaches(path.read_text(encoding="utf-8"), path.relative_to(ROOT).as_posix())
    ]
    assert found == []


@pytest.mark.parametrize(
    "source",
    [
        "import pickle\npickle.load(f)",
        "from pickle import loads",
        "from pickle import UnpicklingError, loads\nloads(data)",
        "from pickle import loads as read\ntry:\n    read(data)\nexcept UnpicklingError:\n    pass",
        "import pickle as p\np.loads(data)  # raises UnpicklingError",
        "from joblib.numpy_pickle import load",
        "import dill",
        "import torch\ntorch.load(p)",
        "torch.load(p, weights_only=False)",
        "torch.load(p, weights_only=flag)",
        "numpy.load(p, allow_pickle=True)",
        "load_state_dict(p)",
        "pandas.read_pickle(p)",
        "eval(text)",
        "tar.extractall(p)",
        "YAML()",
        "AutoModel.from_pretrained(p, trust_remote_code=True)",
        "AutoConfig.from_pretrained(p)",
        "options = {'trust_remote_code': True}",
        "subprocess.run(text, shell=True)",
    ],
)
def test_the_rule_finds_each_breach(source: str) -> None:
    assert list(breaches(source, "weave_data/x.py"))


def test_the_error_of_an_unpickler_may_be_imported_alone() -> None:
    assert not list(breaches("from pickle import UnpicklingError", "weave_data/x.py"))


def test_what_the_rule_allows_is_needed() -> None:
    for path in MAY_PICKLE | MAY_RUN_CODE:
        assert list(breaches((ROOT / path).read_text(encoding="utf-8"), "elsewhere.py")), path


def test_weights_of_an_embedder_are_read_without_running_what_they_pickle(tmp_path: Path) -> None:
    path = tmp_path / "clip.pt"
    torch.save({"state_dict": {"visual.proj": Mark(tmp_path / "ran")}}, path)
    config = EmbeddingConfig(model="RN50", pretrained=str(path), precision="fp32")
    with pytest.raises(Exception, match=r"(?s)."):  # open_clip's own; what counts is below
        load_embedder(config)
    assert not (tmp_path / "ran").exists()
    torch.load(path, weights_only=False)  # the plant does work
    assert (tmp_path / "ran").exists()


def write_tiny_run(run: Path) -> Path:
    """What the training loop leaves of a tiny model after one step; the step's folder."""
    tokenizer = train_caption_tokenizer(CAPTIONS, vocab_size=320)
    vlm = build_model(ModelSettings(precision="fp32", llm_max_length=256), tokenizer)
    save_model_files(vlm, run)
    (run / "config.json").write_text(
        json.dumps({"model": vlm.settings.model_dump(mode="json"), "versions": {}})
    )
    frozen = {}
    for part, module in model_parts(vlm).items():
        if not all(value.requires_grad for value in module.parameters()):
            frozen[part] = frozen_sha256(module)
            save_frozen(LocalStore(run), part, module, sha256=frozen[part])
    weights = {name: value for name, value in vlm.core.named_parameters() if value.requires_grad}
    shapes = {name: value.shape for name, value in weights.items()}
    write_checkpoint(
        LocalStore(run), cut_evenly(weights, 1), step=1, shapes=shapes, frozen=frozen, attempt="attempt"
    )
    return run / step_key(1)


@pytest.fixture
def planted_run(tmp_path: Path) -> tuple[Path, Path]:
    """A finished run with pickles among its files, and the mark they would leave."""
    run, mark = tmp_path / "run", tmp_path / "ran"
    step = write_tiny_run(run)
    pickled = pickle.dumps(Mark(mark))
    attempt = next(path.parent for path in step.rglob("weights-*.safetensors"))
    for folder in (run, step, attempt, run / "language", run / "tokenizer", next((run / "frozen").iterdir())):
        for name in ("pytorch_model.bin", "optimizer.pt", "scheduler.pkl", "rng.pt", "states.npy"):
            (folder / name).write_bytes(pickled)
        np.savez(folder / "states.npz", allow_pickle=True, planted=np.array([Mark(mark)], dtype=object))
    return run, mark


def test_a_run_among_planted_pickles_is_loaded_and_they_are_not(planted_run: tuple[Path, Path]) -> None:
    run, mark = planted_run
    load(run, device="cpu")
    assert not mark.exists()


def test_a_pickle_in_place_of_weights_is_refused(planted_run: tuple[Path, Path]) -> None:
    run, mark = planted_run
    for weights in run.rglob("weights-*.safetensors"):
        weights.write_bytes(pickle.dumps(Mark(mark)))
    with pytest.raises(WeaveError):
        load(run, device="cpu")
    assert not mark.exists()


@pytest.mark.parametrize("folder", ["language", "tokenizer"])
def test_code_that_a_run_brings_is_not_run(planted_run: tuple[Path, Path], folder: str) -> None:
    """`auto_map` is how a model of the hub asks transformers to import its own modules."""
    run, mark = planted_run
    code = f"from pathlib import Path\nPath({str(mark)!r}).touch()\n"
    (run / folder / "own.py").write_text(code)
    name = "config.json" if folder == "language" else "tokenizer_config.json"
    values = json.loads((run / folder / name).read_text())
    values["auto_map"] = dict.fromkeys(("AutoConfig", "AutoModelForCausalLM", "AutoTokenizer"), "own.Own")
    (run / folder / name).write_text(json.dumps(values))
    with contextlib.suppress(WeaveError):
        load(run, device="cpu")
    assert not mark.exists()
