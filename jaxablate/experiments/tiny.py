"""A tiny random Qwen3 checkpoint in the Hugging Face layout, made on the spot."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from jaxablate.core.files import write_json

SPECIAL = ("<pad>", "<eos>")
HIDDEN, HEADS, KV_HEADS, HEAD_WIDTH, LAYERS, MLP = 64, 4, 2, 16, 2, 128
VOCABULARY = 512

SENTENCES = (
    "A mask says which token may attend to which other token.",
    "The cat sat by the window and watched the rain fall on the garden.",
    "Which of these would most likely help a plant to grow? Water, light and warm soil.",
    "To keep bread fresh, put it into a paper bag and leave it in a dry, dark place.",
    "The boy could not lift the box because it was too heavy for him.",
    "She put the kettle on the stove, waited for the water to boil, and made a cup of tea.",
    "When the sun goes down, the temperature of the ground falls and the air becomes cooler.",
    "He tied the rope around the tree, pulled it tight, and then climbed down to the river.",
    "Question: what do animals need to live? Answer: food, water and air.",
    "A person is standing in a kitchen. The person takes a knife and begins to cut an apple.",
    "How do you clean a window? Answer: wipe it with a soft cloth and a little soap.",
    "Sound travels faster through a solid than through a gas, and not at all through nothing.",
    "The team trained all winter, so that in the spring they were ready for the first race.",
    "Rocks are worn away by wind, ice and water; this is called weathering.",
)


def write_tiny_model(folder: Path, *, seed: int) -> None:
    """Write config, weights (float32, normal with deviation 0.1) and tokenizer into `folder`.

    Equal seeds give equal files.
    """
    from safetensors.numpy import save_file

    folder.mkdir(parents=True, exist_ok=True)
    size = _write_tokenizer(folder)
    save_file(_weights(size, seed), folder / "model.safetensors", metadata={"format": "pt"})
    write_json(folder / "config.json", _config(size))


def _config(vocabulary: int) -> dict[str, Any]:
    return {
        "architectures": ["Qwen3ForCausalLM"],
        "model_type": "qwen3",
        "vocab_size": vocabulary,
        "hidden_size": HIDDEN,
        "intermediate_size": MLP,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS,
        "head_dim": HEAD_WIDTH,
        "hidden_act": "silu",
        "rms_norm_eps": 1e-6,
        "rope_theta": 1e6,
        "max_position_embeddings": 2048,
        "attention_bias": False,
        "tie_word_embeddings": True,
        "bos_token_id": None,
        "eos_token_id": 1,
        "pad_token_id": 0,
        "torch_dtype": "float32",
    }


def _weights(vocabulary: int, seed: int) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)

    def matrix(rows: int, columns: int) -> np.ndarray:
        return random.normal(0, 0.1, (rows, columns)).astype(np.float32)

    ones = np.ones(HIDDEN, np.float32)
    tensors = {"model.embed_tokens.weight": matrix(vocabulary, HIDDEN), "model.norm.weight": ones}
    for layer in range(LAYERS):
        at = f"model.layers.{layer}."
        tensors |= {
            f"{at}input_layernorm.weight": ones.copy(),
            f"{at}post_attention_layernorm.weight": ones.copy(),
            f"{at}self_attn.q_proj.weight": matrix(HEADS * HEAD_WIDTH, HIDDEN),
            f"{at}self_attn.k_proj.weight": matrix(KV_HEADS * HEAD_WIDTH, HIDDEN),
            f"{at}self_attn.v_proj.weight": matrix(KV_HEADS * HEAD_WIDTH, HIDDEN),
            f"{at}self_attn.o_proj.weight": matrix(HIDDEN, HEADS * HEAD_WIDTH),
            f"{at}self_attn.q_norm.weight": np.ones(HEAD_WIDTH, np.float32),
            f"{at}self_attn.k_norm.weight": np.ones(HEAD_WIDTH, np.float32),
            f"{at}mlp.gate_proj.weight": matrix(MLP, HIDDEN),
            f"{at}mlp.up_proj.weight": matrix(MLP, HIDDEN),
            f"{at}mlp.down_proj.weight": matrix(HIDDEN, MLP),
        }
    return tensors


def _write_tokenizer(folder: Path) -> int:
    """A byte-level BPE learned from `SENTENCES`; returns the size of its vocabulary."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(SENTENCES, trainer)
    (folder / "tokenizer.json").write_text(tokenizer.to_str(pretty=True), encoding="utf-8")
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "pad_token": SPECIAL[0],
        "eos_token": SPECIAL[1],
        "bos_token": None,
        "add_bos_token": False,
        "model_max_length": 2048,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=1), encoding="utf-8")
    return tokenizer.get_vocab_size()
