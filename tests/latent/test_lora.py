from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxablate.checkpoints.hf import save_hf
from jaxablate.core.errors import UserError
from jaxablate.language_model import LanguageModel
from jaxablate.latent.lora import (
    Factors,
    LoRA,
    LoRAConfig,
    attach,
    check_trainable,
    describe,
    expected_parameters,
    init,
    merge,
    parameter_table,
    resolve_targets,
    unmerge,
)
from jaxablate.models.layout import stack, weights
from tests.engine.models import random_model
from tests.latent.reference import as_lora, logits, parameters, peft_pair, torch_logits
from tests.models.reference import dense_attend, masks, positions, tokens, with_windows

# PEFT asks transformers under an old name.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")

TOLERANCE = 1e-5
KEY = jax.random.key(0)


def decoder_of(layout="loop"):
    lm = random_model(layout=layout)
    return nnx.merge(lm.graph, lm.params)


def random_lora(config, *, key=KEY, **settings):
    """Both factors random, so that the update is not zero."""
    lora = init(LoRAConfig(**{"rank": 4, "alpha": 8.0, **settings}), config, key=key)
    keys = jax.random.split(key, len(lora.factors))
    factors = {
        path: Factors(f.lora_a, 0.3 * jax.random.normal(k, f.lora_b.shape))
        for (path, f), k in zip(lora.factors.items(), keys, strict=True)
    }
    return replace(lora, factors=factors)


def close(got, wanted):
    np.testing.assert_allclose(np.asarray(got), np.asarray(wanted), rtol=TOLERANCE, atol=TOLERANCE)


def loss(logits, rows, xp):
    """A smooth function of every real position's logits that both sides can write."""
    return (logits**2).mean() + xp.sin(logits[:, :9]).sum() / rows.size


@pytest.mark.parametrize("layout", ["loop", "scan"])
@pytest.mark.parametrize("family", ["llama", "qwen3"])
def test_logits_and_gradients_of_a_and_b_are_those_of_peft(family, layout):
    import torch

    adapted, decoder, config = peft_pair(family, layout=layout)
    theirs = parameters(adapted)
    lora = as_lora(theirs)
    rows = tokens(config.vocab_size)

    @jax.jit
    def ours(lora, mask):
        out = logits(attach(decoder, lora), rows, mask)
        return loss(out, rows, jnp), out

    for name in ("padded", "prefix_lm"):
        mask = masks()[name]
        wanted = torch_logits(adapted, rows, mask)
        adapted.zero_grad()
        loss(wanted, rows, torch).backward()
        (_, got), gradients = jax.value_and_grad(partial(ours, mask=mask), has_aux=True)(lora)
        close(got, wanted.detach().numpy())
        for path, pair in gradients.factors.items():
            for letter, gradient in zip("AB", pair, strict=True):
                close(gradient, theirs[path, letter].grad.numpy())
                assert np.abs(gradient).max() > 1e-4, (name, path, letter)


@pytest.mark.parametrize("layout", ["loop", "scan"])
def test_merged_equals_applied(layout):
    decoder = decoder_of(layout)
    lora = random_lora(decoder.config, first_layers=2, targets=("q", "o", "down"))
    rows, mask = tokens(decoder.config.vocab_size), masks()["prefix_lm"]
    applied, merged = attach(decoder, lora), merge(decoder, lora)
    close(logits(merged, rows, mask), logits(applied, rows, mask))
    assert np.abs(logits(merged, rows, mask) - logits(decoder, rows, mask)).max() > 0.01


def test_both_layouts_apply_the_same_partial_set_of_targets():
    loop, scan = decoder_of(), decoder_of("scan")
    lora = random_lora(loop.config)
    lora = replace(lora, factors=dict(list(lora.factors.items())[3:16:2]))
    rows, mask = tokens(loop.config.vocab_size), masks()["causal"]
    close(logits(attach(scan, lora), rows, mask), logits(attach(loop, lora), rows, mask))
    for decoder in (loop, scan):
        close(logits(merge(decoder, lora), rows, mask), logits(attach(loop, lora), rows, mask))


def test_gradients_flow_to_the_targets_alone_in_scan_as_in_loop():
    lora = random_lora(decoder_of().config, first_layers=1, targets=("v", "up"))
    rows, mask = tokens(97), masks()["padded"]

    def gradients(decoder):
        def value(lora):
            return loss(logits(attach(decoder, lora), rows, mask), rows, jnp)

        return jax.jit(jax.grad(value))(lora)

    loop, scan = gradients(decoder_of()), gradients(decoder_of("scan"))
    assert set(scan.factors) == {"layers/0/attention/v", "layers/0/mlp/up"}
    jax.tree.map(close, scan, loop)


@pytest.mark.parametrize("layout", ["loop", "scan"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_unmerge_restores_the_weights_within_rounding_and_merge_keeps_the_dtype(dtype, layout):
    graph, state = nnx.split(decoder_of(layout))
    decoder = nnx.merge(graph, jax.tree.map(lambda x: x.astype(dtype), state))
    before = {path: np.asarray(w, np.float32) for path, w in weights(decoder).items()}
    lora = random_lora(decoder.config, targets=("k", "gate"))
    merged = merge(decoder, lora)
    restored = weights(unmerge(merged, lora))
    for path, array in weights(merged).items():
        assert array.dtype == restored[path].dtype == dtype
        middle, after = np.asarray(array, np.float32), np.asarray(restored[path], np.float32)
        touched = path.endswith(("/k/weight", "/gate/weight"))
        assert touched == (not np.array_equal(middle, before[path]))
        largest = np.maximum(np.abs(before[path]), np.abs(middle))
        # half a step of rounding at the merged weight, half at the restored one
        assert (np.abs(after - before[path]) <= largest * float(jnp.finfo(dtype).eps)).all()
        np.testing.assert_array_equal(np.asarray(weights(decoder)[path], np.float32), before[path])


def test_a_fresh_lora_changes_nothing_and_starts_as_pefts_does():
    decoder = decoder_of()
    lora = init(LoRAConfig(rank=64, alpha=16.0), decoder.config, key=KEY)
    rows, mask = tokens(97), masks()["causal"]
    np.testing.assert_array_equal(
        logits(attach(decoder, lora), rows, mask), logits(decoder, rows, mask)
    )
    for pair in lora.factors.values():
        bound = pair.lora_a.shape[1] ** -0.5  # kaiming_uniform_(a=sqrt(5))
        assert not pair.lora_b.any()
        assert bound * 0.98 < np.abs(pair.lora_a).max() <= bound
        assert abs(np.std(pair.lora_a) - bound / 3**0.5) < 0.03 * bound


def test_a_lora_on_fewer_layers_starts_as_a_part_of_the_whole():
    config = decoder_of().config
    whole = init(LoRAConfig(rank=2, alpha=2.0), config, key=KEY)
    part = init(LoRAConfig(rank=2, alpha=2.0, targets=("up",), first_layers=2), config, key=KEY)
    assert set(part.factors) == {"layers/0/mlp/up", "layers/1/mlp/up"}
    for path, pair in part.factors.items():
        np.testing.assert_array_equal(pair.lora_a, whole.factors[path].lora_a)
    assert not np.array_equal(*(pair.lora_a for pair in part.factors.values()))


def test_dropout_needs_a_key_scales_what_is_kept_and_differs_by_target():
    decoder = decoder_of()
    lora = random_lora(decoder.config, dropout=0.5)
    rows, mask = tokens(97), masks()["causal"]
    plain = logits(attach(decoder, replace(lora, dropout=0.0)), rows, mask)
    np.testing.assert_array_equal(logits(attach(decoder, lora), rows, mask), plain)
    one, again = (logits(attach(decoder, lora, dropout_key=KEY), rows, mask) for _ in range(2))
    np.testing.assert_array_equal(one, again)
    other = logits(attach(decoder, lora, dropout_key=jax.random.key(1)), rows, mask)
    assert np.abs(one - other).max() > 0.01
    attached = attach(decoder, lora, dropout_key=KEY)
    x = jnp.ones((200, 16, 32))
    q, k = attached.layers[0].attention.q, attached.layers[0].attention.k
    mean = q.update(x).mean((0, 1))
    wanted = lora.scale * (q.update.lora_b[...] @ q.update.lora_a[...].sum(1))
    np.testing.assert_allclose(mean, wanted, atol=0.15)
    assert not np.array_equal(q.update.key[...], k.update.key[...])
    scanned = logits(attach(decoder_of("scan"), lora, dropout_key=KEY), rows, mask)
    close(scanned, one)


def test_the_engine_runs_an_attached_decoder_as_the_merged_one():
    lm = random_model()
    decoder = nnx.merge(lm.graph, lm.params)
    lora = random_lora(lm.config)
    attached = LanguageModel(attach(decoder, lora), lm.config)
    merged = LanguageModel(merge(decoder, lora), lm.config)
    rows = tokens(97)
    close(attached.logits(rows, mask="prefix_lm"), merged.logits(rows, mask="prefix_lm"))
    prompts = [row[:9].tolist() for row in rows]
    assert attached.generate(prompts, max_new_tokens=4) == merged.generate(
        prompts, max_new_tokens=4
    )


def test_recomputing_in_the_backward_pass_drops_the_same_inputs():
    decoder, rows = decoder_of("scan"), jnp.asarray(tokens(97))
    lora = random_lora(decoder.config, dropout=0.3)
    attend = dense_attend(jnp.asarray(with_windows(masks()["causal"], decoder.config)))

    @partial(jax.jit, static_argnames="remat")
    @jax.grad
    def gradients(lora, remat):
        adapted = attach(decoder, lora, dropout_key=KEY)
        at = jnp.asarray(positions())
        out = adapted(rows, positions_BT=at, attend=attend, remat=remat)
        return (out.hidden**2 * jnp.arange(32)[None, None]).mean()

    jax.tree.map(close, gradients(lora, "full"), gradients(lora, "none"))


def test_rank_16_on_all_seven_projections_of_llama_8b_is_41943040_parameters():
    config = replace(
        random_model().config,
        hidden_size=4096,
        intermediate_size=14336,
        num_layers=32,
        num_heads=32,
        num_kv_heads=8,
        head_dim=128,
        vocab_size=128256,
        windows=(None,) * 32,
    )
    settings = LoRAConfig(rank=16, alpha=32.0)
    lora = jax.eval_shape(lambda key: init(settings, config, key=key), KEY)
    layer = 4 * 4096 * 2 + 2 * (1024 - 4096) + 3 * (4096 + 14336)  # in + out of q, k, v, o, mlp
    assert check_trainable(lora, settings, config) == 16 * 32 * layer == 41_943_040
    assert expected_parameters(settings, config) == 41_943_040
    assert {row.module: row.parameters // 512 for row in parameter_table(lora)} == {
        "attention/q": 8192,
        "attention/k": 5120,
        "attention/v": 5120,
        "attention/o": 8192,
        "mlp/gate": 18432,
        "mlp/up": 18432,
        "mlp/down": 18432,
    }


def test_the_first_layers_are_exactly_those_adapted_and_the_log_says_so():
    config = decoder_of().config
    settings = LoRAConfig(rank=4, alpha=8.0, targets=("v", "q"), first_layers=2)
    paths = resolve_targets(settings, config)
    assert paths == tuple(f"layers/{n}/attention/{name}" for n in (0, 1) for name in "qv")
    lora = init(settings, config, key=KEY)
    assert check_trainable(lora, settings, config) == 4 * 2 * (64 + 48)
    text = describe(lora)
    assert "attention/q" in text
    assert "2 layers: 0-1" in text
    assert text.endswith("896")


def test_a_lora_on_other_targets_than_the_settings_is_refused():
    config = decoder_of().config
    settings = LoRAConfig(rank=4, alpha=8.0, targets=("q",), first_layers=2)
    whole = init(replace(settings, first_layers=None), config, key=KEY)
    with pytest.raises(UserError, match="layers/2/attention/q"):
        check_trainable(whole, settings, config)
    with pytest.raises(UserError, match=r"896|512"):
        check_trainable(init(replace(settings, rank=2), config, key=KEY), settings, config)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"targets": ()}, "empty"),
        ({"targets": ("q_proj",)}, "q_proj"),
        ({"targets": ("q", "q")}, "twice"),
        ({"targets": ("q", "all-linear")}, "twice"),
        ({"rank": 0}, "rank"),
        ({"alpha": 0.0}, "alpha"),
        ({"dropout": 1.0}, "dropout"),
        ({"first_layers": 0}, "first_layers"),
        ({"first_layers": 4}, "first_layers"),
    ],
)
def test_bad_settings_are_named(settings, said):
    with pytest.raises(UserError, match=said):
        resolve_targets(LoRAConfig(**{"rank": 4, "alpha": 8.0, **settings}), decoder_of().config)


def test_factors_that_do_not_fit_are_named():
    decoder = decoder_of()
    pair = Factors(jnp.zeros((4, 31)), jnp.zeros((32, 4)))
    for path, said in (
        ("layers/0/attention/q", r"\[4, 32\].*\[4, 31\]"),
        ("layers/7/attention/q", "3 layers"),
        ("layers/0/attention/norm", "attention/norm"),
    ):
        lora = LoRA(factors={path: pair}, rank=4, alpha=8.0)
        for act in (attach, merge):
            with pytest.raises(UserError, match=said):
                act(decoder, lora)
    with pytest.raises(UserError, match="no target"):
        attach(decoder, LoRA(factors={}, rank=4, alpha=8.0))


def test_an_attached_decoder_is_not_stored_without_its_lora(tmp_path):
    decoder = decoder_of()
    lora = random_lora(decoder.config)
    attached = attach(decoder, lora)
    for act in (
        lambda: save_hf(attached, decoder.config, tmp_path / "out"),
        lambda: stack(attached),
        lambda: merge(attached, lora),
        lambda: attach(attached, lora),
    ):
        with pytest.raises(UserError, match="attached"):
            act()
    assert not (tmp_path / "out").exists()
    assert decoder.layers[0].attention.q.update is None
