"""Chunked cross entropy against its definition: value, gradients, memory."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxablate.losses.term import Term
from jaxablate.losses.token_ce import num_chunks, token_ce
from jaxablate.models.layers import logits

M, D, V = 24, 8, 40


def inputs(seed=0, dtype="float32"):
    random = np.random.default_rng(seed)
    hidden = jnp.asarray(random.standard_normal((M, D)), dtype)
    weight = jnp.asarray(random.standard_normal((V, D)), dtype)
    targets = jnp.asarray(random.integers(0, V, M), jnp.int32)
    weights = jnp.asarray(random.choice([0.0, 1.0, 0.5], M), jnp.float32)
    return hidden, weight, targets, weights


def project(weight, hidden):
    return logits(hidden, weight)


def definition(hidden, weight, targets, weights):
    logprobs = jax.nn.log_softmax(hidden @ weight.T)
    of_target = jnp.take_along_axis(logprobs, targets[:, None], axis=1)[:, 0]
    return -jnp.sum(weights * of_target)


def chunked(hidden, weight, targets, weights, rows=M):
    unembed = jax.tree_util.Partial(project, weight)
    return token_ce(hidden, targets, weights, unembed, logit_bytes=4 * V * rows)


@pytest.mark.parametrize("rows", [M, 8, 7, 5, 1])
def test_value_and_gradients_equal_the_definition_for_every_chunk_size(rows):
    args = inputs()
    total = lambda *a: 3.0 * chunked(*a, rows=rows).sum  # noqa: E731
    value, gradients = jax.value_and_grad(total, (0, 1))(*args)
    wanted, of_definition = jax.value_and_grad(lambda *a: 3.0 * definition(*a), (0, 1))(*args)
    np.testing.assert_allclose(value, wanted, rtol=1e-6)
    for got, want in zip(gradients, of_definition, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=2e-6)
    assert float(chunked(*args, rows=rows).count) == float(args[3].sum())


def test_parts_of_a_batch_add_up():
    hidden, weight, targets, weights = inputs()
    parts = [chunked(hidden[s], weight, targets[s], weights[s]) for s in (slice(0, 5), slice(5, M))]
    whole = chunked(hidden, weight, targets, weights)
    np.testing.assert_allclose((parts[0] + parts[1]).mean, whole.mean, rtol=1e-6)


def test_nothing_counted_gives_zero_and_a_zero_gradient():
    hidden, weight, targets, weights = inputs()
    term = chunked(hidden, weight, targets, 0 * weights)
    assert float(term.mean) == float(term.count) == 0
    gradient = jax.grad(lambda h: chunked(h, weight, targets, 0 * weights).sum)(hidden)
    assert not np.any(gradient)
    assert float(Term(jnp.float32(0), jnp.float32(0)).mean) == 0


def test_positions_without_weight_may_hold_anything():
    hidden, weight, targets, weights = inputs()
    spoilt = jnp.where(weights[:, None] == 0, jnp.inf, hidden)
    total = lambda h: chunked(h, weight, targets, weights, rows=5).sum  # noqa: E731
    value, gradient = jax.value_and_grad(total)(spoilt)
    np.testing.assert_allclose(value, total(hidden), rtol=1e-6)
    np.testing.assert_allclose(gradient[weights > 0], jax.grad(total)(hidden)[weights > 0])


def test_gradient_types_are_those_of_the_operands_and_shares_add_in_float32():
    hidden, weight, targets, weights = inputs(dtype="bfloat16")
    total = lambda h, w, rows: chunked(h, w, targets, weights, rows=rows).sum  # noqa: E731
    one = jax.grad(total, (0, 1))(hidden, weight, M)
    many = jax.grad(total, (0, 1))(hidden, weight, 1)
    exact = jax.grad(definition, 1)(*(x.astype(jnp.float32) for x in (hidden, weight)), targets,
                                    weights)  # fmt: skip
    assert [g.dtype for g in many] == [jnp.bfloat16, jnp.bfloat16]
    error = [float(jnp.abs(g[1].astype(jnp.float32) - exact).max()) for g in (one, many)]
    assert max(error) < 0.02 * float(jnp.abs(exact).max())


def test_no_array_of_all_logits_exists_forward_or_backward():
    hidden, weight, targets, weights = inputs()
    total = lambda h, w: chunked(h, w, targets, weights, rows=4).sum  # noqa: E731
    for function in (total, jax.value_and_grad(total, (0, 1))):
        text = str(jax.make_jaxpr(function)(hidden, weight))
        assert f"f32[4,{V}]" in text
        assert f"[{M},{V}]" not in text
        assert f",4,{V}]" not in text


def test_a_projection_that_is_not_trained_costs_no_gradient():
    hidden, weight, targets, weights = inputs()
    total = lambda h, w: chunked(h, w, targets, weights, rows=4).sum  # noqa: E731
    of_hidden, of_both = jax.jit(jax.grad(total, 0)), jax.jit(jax.grad(total, (0, 1)))
    costs = [f.lower(hidden, weight).compile().cost_analysis() for f in (of_hidden, of_both)]
    # Two products a chunk (logits, hidden) against three (logits, hidden, weight).
    assert costs[1]["flops"] - costs[0]["flops"] >= 2 * 4 * V * D
    np.testing.assert_allclose(of_hidden(hidden, weight), of_both(hidden, weight)[0], rtol=1e-6)


def test_a_plain_function_serves_where_its_weights_are_not_trained():
    hidden, weight, targets, weights = inputs()
    term = token_ce(hidden, targets, weights, partial(project, weight))
    np.testing.assert_allclose(term.sum, definition(hidden, weight, targets, weights), rtol=1e-6)


def test_chunks_are_as_few_as_fit_and_equal_where_possible():
    assert num_chunks(M, 4 * V, 10**9) == 1
    assert num_chunks(24, 1, 5) == 6
    assert num_chunks(23, 1, 5) == 5
    assert num_chunks(3, 100, 1) == 3
