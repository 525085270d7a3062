"""PEFT as the reference: a tiny transformers model with random factors, and ours beside it."""

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from jaxablate.models.config import DecoderConfig
from jaxablate.models.decoder import Decoder
from jaxablate.models.lora import Factors, LoRA
from tests.models.reference import dense_attend, ours, positions
from tests.tiny import tiny_hf

HF_MODULES = {
    "attention/q": "self_attn.q_proj",
    "attention/k": "self_attn.k_proj",
    "attention/v": "self_attn.v_proj",
    "attention/o": "self_attn.o_proj",
    "mlp/gate": "mlp.gate_proj",
    "mlp/up": "mlp.up_proj",
    "mlp/down": "mlp.down_proj",
}


def peft_pair(
    family: str, *, layout: str = "loop", save_to: Any = None, **settings: Any
) -> tuple[Any, Decoder, DecoderConfig]:
    """A PEFT model with random A and B, and our decoder with the same base weights."""
    peft = pytest.importorskip("peft")
    import torch

    config, model = tiny_hf(family)
    decoder = ours(model, config.to_dict(), layout=layout)
    settings = {"r": 4, "lora_alpha": 6, "target_modules": "all-linear", **settings}
    adapted = peft.get_peft_model(model, peft.LoraConfig(task_type="CAUSAL_LM", **settings)).eval()
    torch.manual_seed(1)
    with torch.no_grad():
        for name, weight in adapted.named_parameters():
            if "lora_" in name:
                weight.normal_(0, 0.2)
    if save_to is not None:
        adapted.save_pretrained(save_to)
    return adapted, decoder, decoder.config


def parameters(adapted: Any) -> dict[str, Any]:
    """PEFT's factors by our path and the letter, such as ("layers/0/attention/q", "A")."""
    found = {}
    for name, weight in adapted.named_parameters():
        if "lora_" not in name:
            continue
        module, _, letter = name.removesuffix(".default.weight").rpartition(".lora_")
        layer, _, rest = module.partition(".layers.")[2].partition(".")
        projection = next(ours for ours, hf in HF_MODULES.items() if hf == rest)
        found[f"layers/{layer}/{projection}", letter] = weight
    return found


def as_lora(arrays: dict[Any, Any], *, rank: int = 4, alpha: float = 6.0) -> LoRA:
    """Our pytree of PEFT's factors."""
    values = {key: jnp.asarray(weight.detach().numpy()) for key, weight in arrays.items()}
    paths = sorted({path for path, _ in values})
    factors = {path: Factors(values[path, "A"], values[path, "B"]) for path in paths}
    return LoRA(factors=factors, rank=rank, alpha=alpha)


def logits(decoder: Decoder, rows: np.ndarray, mask: Any) -> Any:
    """Our logits under a boolean mask [B, T, T] in every layer; these decoders have no window."""
    attend = dense_attend(jnp.stack([jnp.asarray(mask)] * decoder.config.num_layers))
    out = decoder(jnp.asarray(rows), positions_BT=jnp.asarray(positions()), attend=attend)
    return decoder.unembed(out.hidden)


def torch_logits(model: Any, rows: np.ndarray, mask: np.ndarray) -> Any:
    """The reference's logits as a torch tensor that can be differentiated."""
    import torch

    bias = torch.where(torch.tensor(mask)[:, None], 0.0, torch.finfo(torch.float32).min)
    return model(input_ids=torch.tensor(rows), attention_mask=bias).logits
