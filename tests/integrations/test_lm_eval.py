"""The harness gets from us, under the causal mask, what it gets from transformers."""

import json
import subprocess
import sys

import numpy as np
import pytest

from jaxablate.core.errors import UserError
from jaxablate.evaluation.config import SAMPLES
from jaxablate.masks.leak import LeakError
from tests.evaluation.harness import quiet, task_config, task_manager
from tests.integrations.checkpoint import save_checkpoint

pytest.importorskip("lm_eval")
pytest.importorskip("torch")
TASKS = ("piqa", "winogrande", "hellaswag")


class Request:
    def __init__(self, *args):
        self.args = args


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_checkpoint(tmp_path_factory.mktemp("llama"))


@pytest.fixture(scope="module")
def ours(folder):
    return made(folder)


@pytest.fixture(scope="module")
def theirs(folder):
    with quiet():
        from lm_eval.models.huggingface import HFLM

        # Its logits cache (0.4.13) scores a one-token continuation at the position of another's
        # first token when a longer request shares all tokens but the last; alone it agrees.
        return HFLM(
            pretrained=str(folder),
            device="cpu",
            dtype="float32",
            batch_size=2,
            logits_cache=False,
        )


def made(folder, **settings):
    with quiet():
        from jaxablate.integrations.lm_eval import JaxablateLM
    return JaxablateLM(str(folder), **settings)


def rows(name, count=12):
    lines = (SAMPLES / name / "validation.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines[:count]]


def simple_evaluate(model, folder, **settings):
    configs = [task_config(name, rows(name), folder) for name in TASKS]
    tasks = [{"group": f"only_{c['task']}", "task": [c]} for c in configs]
    with quiet():
        import lm_eval

        return lm_eval.simple_evaluate(
            model, tasks=tasks, task_manager=task_manager(), log_samples=True, **settings
        )


def test_tasks_give_the_same_scores_and_accuracies(ours, theirs, tmp_path):
    got = simple_evaluate(ours, tmp_path)
    wanted = simple_evaluate(theirs, tmp_path)
    for name in TASKS:
        for mine, other in zip(got["samples"][name], wanted["samples"][name], strict=True):
            assert mine["arguments"] == other["arguments"]
            for (a, greedy_a), (b, greedy_b) in zip(
                plain(mine["filtered_resps"]), plain(other["filtered_resps"]), strict=True
            ):
                assert a == pytest.approx(b, abs=1e-4)
                assert greedy_a == greedy_b
        for key in ("acc,none", "acc_norm,none"):
            if key in wanted["results"][name]:
                assert got["results"][name][key] == wanted["results"][name][key]
    assert got["config"]["jaxablate"]["mask"] == "causal"
    assert got["config"]["jaxablate"]["scoring"]["leak"]["leaky"] is False


def plain(responses):
    return [(float(logprob), str(greedy)) for logprob, greedy in responses]


def test_single_requests_agree_also_where_contexts_are_empty_or_too_long(ours, theirs):
    pairs = [
        ("", "the cat sat"),
        ("the cat ", "sat on the mat"),
        ("the cat sat on the mat. " * 30, " The man is on a roof"),
        ("née", " 日本"),
        ("the cat", " sat"),
        ("the cat", " sat"),
        ("the cat", " on"),
    ]
    requests = [Request(*pair) for pair in pairs]
    with quiet():
        got = ours.loglikelihood(requests, disable_tqdm=True)
        wanted = theirs.loglikelihood(requests, disable_tqdm=True)
    for (a, greedy_a), (b, greedy_b) in zip(got, wanted, strict=True):
        assert a == pytest.approx(b, abs=1e-4)
        assert greedy_a == greedy_b


def test_rolling_log_likelihoods_agree_over_several_windows(ours, theirs):
    texts = ["the cat sat", "the cat sat on the mat. " * 25, ""]
    with quiet():
        got = ours.loglikelihood_rolling([Request(text) for text in texts])
        wanted = theirs.loglikelihood_rolling([Request(t) for t in texts], disable_tqdm=True)
    np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-4)


def test_greedy_texts_agree_with_stops_and_lengths(ours, theirs):
    requests = [
        Request("the cat sat on", {"until": ["\n"], "max_gen_toks": 12}),
        Request("Question: which of these", {"until": ["e", " "], "max_gen_toks": 12}),
        Request("a woman carries two boards " * 10, {"until": [], "max_gen_toks": 12}),
        Request("the man", {"until": "a", "max_gen_toks": 12, "do_sample": False}),
    ]
    with quiet():
        got = ours.generate_until(requests)
        wanted = theirs.generate_until(requests, disable_tqdm=True)
    assert got == wanted


def test_a_long_text_is_the_same_whether_asked_for_at_once_or_in_two_attempts(ours, monkeypatch):
    with quiet():
        from jaxablate.integrations import lm_eval as module
    request = [Request("the cat", {"until": ["\x00"], "max_gen_toks": 12})]
    at_once = ours.generate_until(request)
    monkeypatch.setattr(module, "FIRST_TOKENS", 5)
    assert ours.generate_until(request) == at_once


def test_the_mask_reaches_the_scores(folder, ours):
    other = made(folder, mask="prefix_lm")
    request = [Request("the cat sat on the mat", " The man")]
    with quiet():
        assert other.loglikelihood(request, disable_tqdm=True) != ours.loglikelihood(
            request, disable_tqdm=True
        )
    assert other.get_model_info()["jaxablate"]["mask"] == "causal | within(prompt)"


def test_a_leaky_mask_is_refused_unless_allowed_and_stamped_then(folder):
    request = [Request("the cat", " sat on the mat")]
    with pytest.raises(LeakError), quiet():
        made(folder, mask="full_bidirectional").loglikelihood(request, disable_tqdm=True)
    allowed = made(folder, mask="full_bidirectional", allow_leaky=True)
    with quiet():
        allowed.loglikelihood(request, disable_tqdm=True)
    assert allowed.get_model_info()["jaxablate"]["scoring"]["leak"]["leaky"] is True


def test_arguments_come_as_text_from_the_command_line(folder):
    with quiet():
        from lm_eval.api.registry import get_model

        import jaxablate.integrations.lm_eval  # noqa: F401 - registers the model
    text = f"pretrained={folder},mask=causal & window(3),dtype=float32,max_length=32"
    model = get_model("jaxablate").create_from_arg_string(
        text, {"batch_size": 4, "device": "cuda:0"}
    )
    assert str(model.mask) == "causal & window(3)"
    assert (model.max_length, model.rows_per_batch) == (32, 4)


TASK = """
task: ours
dataset_path: json
dataset_kwargs: {{data_files: {{validation: {rows}}}, cache_dir: {cache}}}
validation_split: validation
output_type: multiple_choice
doc_to_text: "{{{{goal}}}}"
doc_to_target: label
doc_to_choice: "{{{{[sol1, sol2]}}}}"
metric_list: [{{metric: acc}}]
"""


@pytest.mark.slow
def test_the_harness_command_line_runs_the_model(folder, tmp_path):
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows("piqa", 3)))
    task = TASK.format(rows=tmp_path / "rows.jsonl", cache=tmp_path / "cache")
    (tmp_path / "ours.yaml").write_text(task)
    words = ["run", "--model", "jaxablate", "--model_args", f"pretrained={folder},mask=prefix_lm"]
    words += ["--tasks", "ours", "--include_path", str(tmp_path)]
    done = subprocess.run(
        [sys.executable, "-m", "jaxablate.integrations.lm_eval", *words],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "|ours |" in done.stdout


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"mask": "casual"}, "causal"),
        ({"batch_size": "many"}, "batch_size must be a whole number"),
        ({"batch_size": 0}, "batch_size must be a whole number"),
    ],
)
def test_wrong_arguments_are_user_errors(folder, settings, message):
    with pytest.raises(UserError, match=message):
        made(folder, **settings)


def test_what_would_be_silently_wrong_is_refused(ours):
    with pytest.raises(UserError, match="use_cache stores responses by request alone"):
        ours.set_cache_hook(None)
    with pytest.raises(UserError, match="generates greedily"):
        ours.generate_until([Request("x", {"temperature": 0.7})])
    with pytest.raises(UserError, match="'repetition_penalty' is not supported"):
        ours.generate_until([Request("x", {"repetition_penalty": 1.1})])
    with pytest.raises(UserError, match="leaves no room"):
        ours.generate_until([Request("x", {"max_gen_toks": 64})])
    with pytest.raises(UserError, match="a continuation has"), quiet():
        ours.loglikelihood([Request("x", "the" * 200)], disable_tqdm=True)


MISSING = """
import sys
sys.modules["lm_eval"] = None
import jaxablate.integrations
from jaxablate.core.errors import UserError
try:
    import jaxablate.integrations.lm_eval
except UserError as error:
    print(error)
"""


def test_without_the_harness_one_sentence_names_the_extra():
    done = subprocess.run(
        [sys.executable, "-c", MISSING], capture_output=True, text=True, check=True
    )
    assert "pip install 'jaxablate[eval]'" in done.stdout
