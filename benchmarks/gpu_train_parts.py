"""Parts of `gpu_train.py`: models of a shape, batches, LoRA, what is recomputed, optimizers."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import nn

from weave_data.torchvision_ops import install
from weave_train.config import LoraConfig, ModelSettings
from weave_train.engine.deepspeed_config import EngineSettings
from weave_train.engine.stages import apply_stage
from weave_train.launch import Launch
from weave_train.models.lora import add_lora
from weave_train.models.model import VideoLanguageCore, VideoLanguageModel
from weave_train.models.projector import build_projector
from weave_train.models.vision import build_tower
from weave_train.rows.batch import Batch, EncodedRow, collate
from weave_train.rows.pixels import blank_pixels
from weave_train.rows.prompt import IGNORE_INDEX, VISUAL_TOKEN_ID
from weave_train.towers import num_visual_tokens

LLAMA_2_7B = {
    "vocab_size": 32_064,  # 32,000 and the padding token, rounded up to 64
    "hidden_size": 4096,
    "intermediate_size": 11_008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "max_position_embeddings": 16_384,
}
TINY = {
    "vocab_size": 512,
    "hidden_size": 96,
    "intermediate_size": 256,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "max_position_embeddings": 512,
}
PROMPT_TOKENS = 24
ANSWER_TOKENS = (100, 180)  # four captions of a woven sample, end not included
MAX_GRAD_NORM = 1.0
CHUNK_ELEMENTS = 1 << 27


def model_settings(*, is_tiny: bool) -> ModelSettings:
    return ModelSettings(
        vision_backbone_id="video-tiny-vit" if is_tiny else "video-clip-vit-l-336px",
        vision_weights="random",
        precision="bf16",
        llm_max_length=(TINY if is_tiny else LLAMA_2_7B)["max_position_embeddings"],
    )


def build_vlm(*, is_tiny: bool, device: torch.device, dtype: torch.dtype) -> VideoLanguageModel:
    """Frozen tower in bf16, core in `dtype`, random weights made on the device."""
    install()
    from transformers import AutoModelForCausalLM, LlamaConfig

    torch.manual_seed(1)
    settings = model_settings(is_tiny=is_tiny)
    shape = TINY if is_tiny else LLAMA_2_7B
    tower = build_tower(settings).to(device, torch.bfloat16)
    config = LlamaConfig(**shape, pad_token_id=0, use_cache=False)
    with torch.device(device):
        language = AutoModelForCausalLM.from_config(config, attn_implementation="sdpa", dtype=dtype)
    projector = build_projector(
        settings.projector_id, vision_dim=tower.spec.dim, text_dim=shape["hidden_size"]
    )
    core = VideoLanguageCore(projector.to(device, dtype), language).train()
    no_tokenizer: Any = None  # batches are made of tokens
    return VideoLanguageModel(tower=tower, core=core, settings=settings, tokenizer=no_tokenizer)


def make_batches(settings: ModelSettings, *, num_frames: int, rows: int, count: int) -> list[Batch]:
    """Woven-like rows: T * P visual tokens, a prompt, an answer whose length differs; the longest first."""
    generator = torch.Generator().manual_seed(num_frames)
    shape = blank_pixels(num_frames, settings).shape
    visual = torch.full((num_visual_tokens(num_frames, settings),), VISUAL_TOKEN_ID)
    made = []
    for index in range(count * rows):
        low, high = ANSWER_TOKENS
        length = high - 1 if index < rows else int(torch.randint(low, high, (), generator=generator))
        text = torch.randint(5, 500, (PROMPT_TOKENS + length,), generator=generator)
        input_ids = torch.cat([torch.ones(1, dtype=torch.int64), visual, text])
        labels = torch.full_like(input_ids, IGNORE_INDEX)
        labels[-length:] = input_ids[-length:]
        pixels = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
        made.append(EncodedRow(f"row-{index}", input_ids, labels, pixels))
    return [collate(made[start : start + rows], pad_id=0) for start in range(0, len(made), rows)]


def train_adapters(vlm: VideoLanguageModel, *, rank: int) -> None:
    """The trainer's own LoRA on all linear layers of the blocks; adapters and projector are trained."""
    add_lora(vlm.core, LoraConfig(rank=rank, alpha=float(rank)), seed=1)
    apply_stage(vlm, "finetune")


def decoder_layers(core: VideoLanguageCore) -> list[Any]:
    return list(core.language_model.base_model.layers)


def recompute_every(core: VideoLanguageCore, n: int) -> float:
    """Have every n-th decoder layer run again in backward, 0: none; returns the share."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # transformers renames what this calls
        core.recompute_activations()
    chosen = [n > 0 and index % n == 0 for index in range(len(decoder_layers(core)))]
    for layer, is_chosen in zip(decoder_layers(core), chosen, strict=True):
        layer.gradient_checkpointing = is_chosen
    return sum(chosen) / len(chosen)


def trained(core: nn.Module) -> list[nn.Parameter]:
    return [parameter for parameter in core.parameters() if parameter.requires_grad]


class _InAutograd:
    """Gradients by plain autograd, summed over micro-steps."""

    def __init__(self, core: VideoLanguageCore) -> None:
        self.core = core

    def backward(self, features: torch.Tensor | None, batch: Batch, *, scale: float) -> torch.Tensor:
        loss = self.core(features, batch) * scale
        loss.backward()
        return loss.detach()

    def mark_boundary(self, *, is_last: bool) -> None:
        """Nothing depends on it."""


class MasterAdamW(_InAutograd):
    """bf16 weights; gradient sums in fp32 beside them; fp32 masters and fused AdamW where `home` says.

    Staged, with masters on the host, gradients go there and weights come back through page-locked
    buffers, some parameters at a time: no second copy of all gradients.
    """

    def __init__(self, core: VideoLanguageCore, *, home: torch.device, is_staged: bool) -> None:
        super().__init__(core)
        self._parameters = trained(core)
        self._sums = {p: torch.zeros_like(p, dtype=torch.float32) for p in self._parameters}
        self._masters = {p: p.detach().to(home, torch.float32, copy=True) for p in self._parameters}
        self._chunks = list(_chunks(self._parameters))
        self._adamws = [
            torch.optim.AdamW([self._masters[p] for p in chunk], lr=0.0, weight_decay=0.1, fused=True)
            for chunk in self._chunks
        ]
        self._staging: tuple[torch.Tensor, torch.Tensor] | None = None
        if is_staged:
            largest = max(sum(p.numel() for p in chunk) for chunk in self._chunks)
            is_pinned = torch.cuda.is_available()
            self._staging = (
                torch.empty(largest, dtype=torch.float32, pin_memory=is_pinned),
                torch.empty(largest, dtype=self._parameters[0].dtype, pin_memory=is_pinned),
            )
        for p in self._parameters:
            p.register_post_accumulate_grad_hook(self._gather)
        self.step(0.0)  # with gradients of 0: makes the states
        _restart(self._adamws)

    def _gather(self, p: torch.Tensor) -> None:
        self._sums[p].add_(p.grad)
        p.grad = None

    def step(self, learning_rate: float) -> None:
        norms = torch._foreach_norm(list(self._sums.values()))
        norm = torch.linalg.vector_norm(torch.stack(norms))
        torch._foreach_mul_(list(self._sums.values()), (MAX_GRAD_NORM / (norm + 1e-6)).clamp(max=1.0))
        for adamw, chunk in zip(self._adamws, self._chunks, strict=True):
            adamw.param_groups[0]["lr"] = learning_rate
            start = 0
            for p in chunk:
                self._masters[p].grad = self._staged_gradient(p, start)
                start += p.numel()
            adamw.step()
            self._write_back(chunk)
        self.discard()

    def _staged_gradient(self, p: nn.Parameter, start: int) -> torch.Tensor:
        if self._staging is None:
            return self._sums[p]
        staged = self._staging[0][start : start + p.numel()].view(p.shape)
        return staged.copy_(self._sums[p])

    @torch.no_grad()
    def _write_back(self, chunk: Sequence[nn.Parameter]) -> None:
        for p in chunk:
            master = self._masters[p]
            master.grad = None
            if self._staging is not None:
                master = self._staging[1][: p.numel()].view(p.shape).copy_(master)
            p.copy_(master)

    def discard(self) -> None:
        """Forget gradients."""
        for p, gathered in self._sums.items():
            p.grad = None
            gathered.zero_()


class PureAdamW(_InAutograd):
    """Weights, gradients and AdamW's states in bf16: half the memory, rounded updates."""

    def __init__(self, core: VideoLanguageCore) -> None:
        super().__init__(core)
        self._adamw = torch.optim.AdamW(trained(core), lr=0.0, weight_decay=0.1, fused=True)
        for p in trained(core):
            p.grad = torch.zeros_like(p)
        self.step(0.0)
        _restart([self._adamw])

    def step(self, learning_rate: float) -> None:
        torch.nn.utils.clip_grad_norm_(trained(self.core), MAX_GRAD_NORM)
        self._adamw.param_groups[0]["lr"] = learning_rate
        self._adamw.step()
        self.discard()

    def discard(self) -> None:
        self._adamw.zero_grad(set_to_none=True)


class EngineAdamW:
    """What the trainer uses: DeepSpeed ZeRO-2 around a core that is given in fp32."""

    def __init__(self, core: VideoLanguageCore, *, micro_steps: int, rows: int, launch: Launch) -> None:
        from weave_train.engine.engine import TrainEngine, init_process_group

        init_process_group(launch)
        settings = EngineSettings(
            zero_stage=2,
            precision="bf16",
            micro_batch_rows=rows,
            micro_steps=micro_steps,
            max_grad_norm=MAX_GRAD_NORM,
            weight_decay=0.1,
        )
        self._engine = TrainEngine(core, settings, launch)

    def mark_boundary(self, *, is_last: bool) -> None:
        self._engine.mark_boundary(is_last=is_last)

    def backward(self, features: torch.Tensor | None, batch: Batch, *, scale: float) -> torch.Tensor:
        loss = self._engine.loss_sum(features, batch) * scale
        self._engine.backward(loss)
        return loss.detach()

    def step(self, learning_rate: float) -> None:
        norm = self._engine.step(learning_rate)
        assert math.isfinite(norm)

    def discard(self) -> None:
        """Only one share of recomputed layers is tried with it."""


def _restart(adamws: Sequence[torch.optim.AdamW]) -> None:
    """Forget that a step was taken."""
    for adamw in adamws:
        for state in adamw.state.values():
            state["step"].zero_()


def _chunks(parameters: Sequence[nn.Parameter]) -> Iterator[list[nn.Parameter]]:
    chunk: list[nn.Parameter] = []
    for p in parameters:
        if chunk and sum(q.numel() for q in chunk) + p.numel() > CHUNK_ELEMENTS:
            yield chunk
            chunk = []
        chunk.append(p)
    yield chunk
