"""The Python surface on checkpoints of every family, against transformers in float32."""

import jax
import numpy as np
import pytest

import jaxablate
from jaxablate.core.errors import UserError
from jaxablate.core.slots import rows
from jaxablate.engine import forward
from jaxablate.engine.plan import plan_mask
from jaxablate.language_model import load
from jaxablate.masks.parse import parse
from tests.data.tokens import save
from tests.tiny import FAMILIES, save_tiny

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

LENGTHS, PROMPTS, WIDTH, VOCAB = (40, 13, 1), (17, 13, 1), 40, 131


@pytest.fixture(scope="module", params=FAMILIES)
def pair(request, tmp_path_factory):
    """(our language model, the torch model) of one family, from one folder on disk."""
    folder = tmp_path_factory.mktemp(request.param)
    save_tiny(request.param, folder)
    peer = transformers.AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager")
    return load(folder), peer.float().eval()


def tokens():
    return np.random.default_rng(0).integers(3, VOCAB, (len(LENGTHS), WIDTH))


def peer_logits(peer, ids):
    with torch.no_grad():
        return peer(torch.tensor(ids)).logits.numpy()


def test_padded_causal_logits_equal_transformers(pair):
    lm, peer = pair
    ids = tokens()
    got = np.asarray(lm.logits(ids, LENGTHS))
    for row, length in enumerate(LENGTHS):
        expected = peer_logits(peer, ids[row : row + 1, :length])[0]
        np.testing.assert_allclose(got[row, :length], expected, atol=1e-4)


def test_hidden_states_have_a_row_for_the_embedding_each_layer_and_the_norm(pair):
    lm, peer = pair
    ids = tokens()[:1]
    got = np.asarray(lm.hidden_states(ids))
    with torch.no_grad():
        expected = peer(torch.tensor(ids), output_hidden_states=True).hidden_states
    assert got.shape[0] == lm.config.num_layers + 2
    for ours, theirs in zip(got[: lm.config.num_layers], expected, strict=False):
        np.testing.assert_allclose(ours, theirs.numpy(), atol=1e-4)
    np.testing.assert_allclose(got[-1], expected[-1].numpy(), atol=1e-4)


def test_scores_are_the_log_softmax_of_transformers_logits(pair):
    lm, peer = pair
    ids = tokens()[0].tolist()
    pairs = [(ids[:9], ids[9:14]), (ids[:9], ids[20:21]), (ids[:1], ids[1:30])]
    for (prompt, continuation), score in zip(pairs, lm.score(pairs), strict=True):
        logits = torch.tensor(peer_logits(peer, [prompt + continuation]))[0]
        logprobs = torch.log_softmax(logits.double(), -1)
        expected = [
            logprobs[len(prompt) + at - 1, token].item() for at, token in enumerate(continuation)
        ]
        np.testing.assert_allclose(score.token_logprobs, expected, atol=1e-4)


def test_greedy_generation_equals_transformers_token_for_token(pair):
    lm, peer = pair
    prompts = [tokens()[row, :length].tolist() for row, length in enumerate((30, 8, 1))]
    found = lm.generate(prompts, max_new_tokens=24, stop_at_eos=False)
    for prompt, ours in zip(prompts, found, strict=True):
        settings = {"do_sample": False, "min_new_tokens": 24, "max_new_tokens": 24}
        ids = torch.tensor([prompt])
        with torch.no_grad():
            theirs = peer.generate(
                ids, attention_mask=torch.ones_like(ids), eos_token_id=None, pad_token_id=0,
                **settings,
            )  # fmt: skip
        assert ours == theirs[0, len(prompt) :].tolist()


def test_saving_gives_a_folder_that_transformers_loads_with_the_same_logits(pair, tmp_path):
    lm, peer = pair
    lm.save_hf(tmp_path / "out")
    again = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    ids = tokens()[:1]
    got = peer_logits(again.float().eval(), ids)
    np.testing.assert_allclose(got, peer_logits(peer, ids), atol=1e-5)


def test_a_sharded_model_gives_the_logits_of_one_device(tmp_path):
    save_tiny("qwen3", tmp_path)
    ids = tokens()
    expected = np.asarray(load(tmp_path).logits(ids, LENGTHS, "prefix_lm", PROMPTS))
    for mesh in ("fsdp=2,tensor=2", "data=3", "tensor=4"):
        got = np.asarray(load(tmp_path, mesh=mesh).logits(ids, LENGTHS, "prefix_lm", PROMPTS))
        for row, length in enumerate(LENGTHS):
            np.testing.assert_allclose(got[row, :length], expected[row, :length], atol=1e-5)


def test_the_package_names_its_surface_and_stays_light():
    assert jaxablate.load is load
    assert str(jaxablate.masks.parse("same_segment & (causal | within(prompt))"))
    with pytest.raises(AttributeError, match="lode"):
        _ = jaxablate.lode


@pytest.mark.parametrize(
    ("call", "word"),
    [
        (lambda lm: lm.logits([[1.5]]), "integers"),
        (lambda lm: lm.logits([[VOCAB]]), str(VOCAB)),
        (lambda lm: lm.logits([[1, 2]], [3]), r"0\.\.2, got \[3\]"),
        (lambda lm: lm.logits([[1, 2]], [1, 1]), r"one entry a row \(1\)"),
        (lambda lm: lm.logits([[1, 2]], mask="casual"), "did you mean 'causal'"),
        (lambda lm: lm.score([("a", [1])]), "one of each"),
        (lambda lm: lm.generate("text"), "got one text"),
        (lambda lm: lm.generate(["a", [1]]), "got both"),
    ],
)
def test_wrong_calls_say_what_was_got(tmp_path, call, word):
    save_tiny("llama", tmp_path)
    with pytest.raises(UserError, match=word):
        call(load(tmp_path))


def test_an_unknown_dtype_or_mesh_is_named_before_anything_is_read():
    with pytest.raises(UserError, match="float23"):
        load("nowhere", dtype="float23")
    with pytest.raises(UserError, match="fsdb"):
        load("nowhere", mesh="fsdb=2")


@pytest.mark.parametrize("template", [True, False])
def test_text_is_read_with_bos_exactly_where_transformers_reads_it_so(tmp_path, template):
    save_tiny("llama", tmp_path, vocab_size=400)
    save(tmp_path, template=template)
    lm = load(tmp_path)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path)
    prompt, continuation = "the cat sat", " on the mat"
    before = tokenizer(prompt)["input_ids"]
    after = tokenizer(prompt + continuation)["input_ids"][len(before) :]
    (by_text,), (by_ids,) = (lm.score([pair]) for pair in ((prompt, continuation), (before, after)))
    np.testing.assert_array_equal(by_text.token_logprobs, by_ids.token_logprobs)
    (without,) = lm.score([(prompt, continuation)], add_bos=False)
    assert np.array_equal(without.token_logprobs, by_text.token_logprobs) is not template
    (text,) = lm.generate([prompt], max_new_tokens=4, stop_at_eos=False)
    (ids,) = lm.generate([before], max_new_tokens=4, stop_at_eos=False)
    assert text == lm.tokenizer.decode(ids)


@pytest.mark.parametrize(("dtype", "marked"), [("float32", True), ("bfloat16", False)])
def test_float32_asks_for_full_products_where_an_accelerator_would_round(tmp_path, dtype, marked):
    save_tiny("qwen3", tmp_path)
    lm = load(tmp_path, dtype=dtype)
    slots = rows([4], 4)
    plan = plan_mask(parse("causal"), slots, slots, lm.config)
    ids = np.zeros((1, 4), np.int32)
    with jax.default_matmul_precision("default"), lm.precision():
        program = forward.logits.lower(lm.graph, lm.params, ids, slots.position, plan).as_text()
    assert ("HIGHEST" in program) is marked
