"""Gradients flow exactly where the mask lets them, and a leak is seen where it is."""

import numpy as np
import pytest

from jaxablate.core.errors import UserError
from jaxablate.core.slots import rows
from jaxablate.masks import parse
from jaxablate.probes.flow import MOST_TOKENS, gradient_flow, measure, reachable
from tests.engine.models import random_model

TOKENS = [7, 80, 3, 41, 9, 66, 2, 30, 55]
PROMPT = 5
MASKS = [
    "causal",
    "prefix_lm",
    "full_bidirectional",
    "sliding_window(3)",
    "layers(1) & prefix_lm | ~layers(1) & sliding_window(2)",
    "heads(0-1) & prefix_lm | causal & window(2)",
    "nothing",
]


@pytest.fixture(scope="module")
def lm():
    return random_model()


def closure(relations) -> np.ndarray:
    """What each slot depends on, by the definition: the top layer's keys, and theirs below."""
    reached = np.eye(len(relations[0]), dtype=bool)
    for relation in reversed(relations):
        reached |= (reached.astype(int) @ relation) > 0
    return reached


@pytest.mark.parametrize("text", MASKS)
def test_the_gradient_is_zero_exactly_where_nothing_is_reachable(lm, text):
    flow = measure(lm, TOKENS, text, prompt_length=PROMPT)
    slots, mask = rows([9], 9, [PROMPT]), parse(text)
    relations = [
        np.any(
            [mask.materialise(slots, slots, layer=layer, head=head)[0] for head in range(4)], axis=0
        )
        for layer in range(3)
    ]
    np.testing.assert_array_equal(flow.reachable, closure(relations))
    np.testing.assert_array_equal(flow.gradient > 0, flow.reachable)


def test_the_models_own_window_counts(lm):
    windowed = random_model(windows=(3, None, 2))
    flow = measure(windowed, TOKENS, "causal & layers(0,2)", prompt_length=PROMPT)
    np.testing.assert_array_equal(flow.gradient > 0, flow.reachable)
    assert flow.reachable[8].tolist() == [False] * 5 + [True] * 4


@pytest.mark.parametrize(
    ("mask", "sees", "leaks"),
    [
        ("causal", (), ()),
        ("prefix_lm", (0, 1, 2, 3), ()),
        ("full_bidirectional", (0, 1, 2, 3, 4, 5, 6, 7), (4, 5, 6, 7)),
        ("causal | layers(1) & window(1,1)", (0, 1, 2, 3, 4, 5, 6, 7), (4, 5, 6, 7)),
    ],
)
def test_it_fires_on_a_leaky_mask_and_is_silent_otherwise(lm, mask, sees, leaks):
    flow = measure(lm, TOKENS, mask, prompt_length=PROMPT)
    assert (flow.sees_target, flow.leaks) == (sees, leaks)


def test_the_gradient_is_that_of_the_loss(lm):
    """A step along the gradient of one position's loss changes that loss as the norm says."""
    import jax
    import jax.numpy as jnp
    from flax import nnx

    from jaxablate.engine.plan import plan_mask, without_cache

    slots = rows([9], 9, [PROMPT])
    plan = jax.tree.map(jnp.asarray, plan_mask(parse("prefix_lm"), slots, slots, lm.config))
    positions, ids = jnp.asarray(slots.position), jnp.asarray([TOKENS])
    decoder = nnx.merge(lm.graph, lm.params)

    def loss(x):
        out = decoder.transform(x, positions_BT=positions, attend=without_cache(plan))
        return -jax.nn.log_softmax(decoder.unembed(out.hidden)[0, 6])[TOKENS[7]]

    wanted = jnp.linalg.norm(jax.jit(jax.grad(loss))(decoder.embed(ids))[0], axis=-1)
    found = gradient_flow(lm, TOKENS, "prefix_lm", prompt_length=PROMPT)[6]
    np.testing.assert_allclose(found, wanted, rtol=1e-4)


def test_both_layouts_measure_the_same(lm):
    scanned = random_model(layout="scan")
    one, other = (
        gradient_flow(model, TOKENS, "prefix_lm", prompt_length=PROMPT) for model in (lm, scanned)
    )
    np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-7)


def test_reachable_needs_no_weights(lm):
    table = reachable(lm.config, 4, "sliding_window(2)", prompt_length=2)
    assert table.tolist() == np.tril(np.ones((4, 4), bool)).tolist()


@pytest.mark.parametrize(
    ("tokens", "prompt", "message"),
    [
        ([3], 1, "2 to 512 tokens"),
        ([3] * (MOST_TOKENS + 1), 1, "2 to 512 tokens"),
        ([3, 4], 0, "prompt_length"),
        ([3, 4], 3, "prompt_length"),
        ([3, 97], 1, "token ids"),
    ],
)
def test_what_cannot_be_measured_is_refused(lm, tokens, prompt, message):
    with pytest.raises(UserError, match=message):
        gradient_flow(lm, tokens, "causal", prompt_length=prompt)
