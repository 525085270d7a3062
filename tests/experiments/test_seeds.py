"""Several seeds: what is trained, and what works on it, is run once for each; all else once."""

import dataclasses
import json
from pathlib import Path

import pytest
import yaml

from jaxablate.core.errors import UserError
from jaxablate.core.settings import parse_yaml, read_settings
from jaxablate.experiments.plan import make_plan
from jaxablate.experiments.runner import run_experiment
from tests.experiments.small import plan, settings

SEEDS = "seeds=[0, 3]"
SCORED = "stages.rates_scored={kind: evaluate, model: rates, masks: [prefix_lm], title: Rates}"


def jobs(*overrides):
    return {job.name: job for job in plan("root", *overrides).jobs()}


def test_each_finetuning_and_what_works_on_it_is_run_once_a_seed_and_the_rest_once():
    assert list(jobs(SEEDS)) == [
        "tiny_model",
        "stage1",
        "stage3b_s0",
        "stage3b_s3",
        "stage4_s0",
        "stage4_s3",
        "dose_s0",
        "dose_s3",
        "rates-1e-05_s0",
        "rates-2e-05_s0",
        "rates-1e-05_s3",
        "rates-2e-05_s3",
    ]


def test_a_seed_is_that_of_finetuning_and_of_nothing_else():
    found = jobs(SEEDS)
    for name in ("stage3b_s3", "rates-1e-05_s3"):
        assert (found[name].config.seed, found[name].config.data.seed) == (3, 0)
        assert found[name].provenance["seed"] == "seeds"
    assert found["stage4_s3"].config.seed == 0
    assert found["stage4_s3"].config.checkpoint == f"root/{found['stage3b_s3'].run}"
    assert found["stage4_s3"].needs == ("stage3b_s3",)
    assert len({job.run[-6:] for job in found.values()}) == len(found)


def test_a_seed_is_passed_on_from_finetuning_to_finetuning():
    more = "stages.longer={kind: finetune, model: stage3b}"
    found = jobs(SEEDS, more)["longer_s3"]
    assert (found.needs, found.config.seed) == (("stage3b_s3",), 3)


def test_what_is_no_model_is_needed_with_all_its_seeds_and_does_not_pass_them_on():
    found = jobs(SEEDS, "stages.stage1.needs=[stage3b]")
    assert found["stage1"].needs == ("tiny_model", "stage3b_s0", "stage3b_s3")


def test_a_stage_is_chosen_with_all_its_seeds():
    names = [job.name for job in plan("root", SEEDS).jobs(["stage4"])]
    assert names == ["tiny_model", "stage3b_s0", "stage3b_s3", "stage4_s0", "stage4_s3"]


def test_seed_and_group_stand_in_the_index_only_where_there_are_seeds(tmp_path, work):
    run_experiment(plan(tmp_path / "one"))
    run_experiment(plan(tmp_path / "two", SEEDS))
    one, two = (_entries(tmp_path / name) for name in ("one", "two"))
    assert not any({"seed", "group"} & entry.keys() for entry in one.values())
    assert not {"seed", "group"} & two["stage1"].keys()
    assert (two["stage4_s3"]["seed"], two["stage4_s3"]["group"]) == (3, "stage4")
    assert (two["stage4_s3"]["model"], two["stage1"]["model"]) == ("stage3b_s3", "base")
    assert two["rates-2e-05_s3"]["group"] == "rates-2e-05"
    # What has no seed is the same run in both.
    assert two["stage1"] == one["stage1"]
    # Seed 0 is the finetuning's own default: the same work under another name.
    assert two["stage3b_s0"]["run"][-6:] == one["stage3b"]["run"][-6:]


def _entries(root):
    table = json.loads((root / "experiment.json").read_text())
    return {entry["name"]: entry for entry in table["stages"]}


def test_written_out_in_full_it_means_the_same():
    first = plan("root", SEEDS, SCORED, "stages.stage4.needs=[stage1]")
    text = yaml.safe_dump(first.resolved(), sort_keys=False)
    again = make_plan(parse_yaml(text, "again"), "root")
    assert [job.run for job in again.jobs()] == [job.run for job in first.jobs()]
    assert again.fingerprint == first.fingerprint


def test_an_evaluation_of_a_sweep_is_one_of_each_value():
    found = jobs(SCORED)
    for value in ("1e-05", "2e-05"):
        job = found[f"rates_scored-{value}"]
        assert job.config.checkpoint == f"root/{found[f'rates-{value}'].run}"
        assert job.needs == (f"rates-{value}",)
        assert job.entry()["model"] == f"rates-{value}"
        assert job.title == f"Rates, schedule.peak {value}"
    seeded = jobs(SCORED, SEEDS)["rates_scored-2e-05_s3"]
    assert seeded.needs == ("rates-2e-05_s3",)
    assert seeded.entry()["group"] == "rates_scored-2e-05"


def test_a_sweep_over_words_or_steps_is_told_in_the_index():
    over = "stages.rates.over=step.master_dtype", "stages.rates.values=[float32, bfloat16]"
    found = jobs(*over)["rates-bfloat16"]
    assert found.config.step.master_dtype == "bfloat16"
    assert found.entry()["sweep"]["value"] == "bfloat16"
    steps = jobs("stages.rates.over=steps", "stages.rates.values=[2, 8]")
    assert [steps[f"rates-{n}"].config.steps for n in (2, 8)] == [2, 8]


WRONG = {
    "seeds=[0, 0]": r"seeds are different numbers >= 0, got \[0, 0\]",
    "seeds=[-1]": r"seeds are different numbers >= 0, got \[-1\]",
    "finetune.seed=1": "stage 'stage3b': .*decide the seed of a finetuning",
    "stages.stage3b.seed=1": "stage 'stage3b': .*decide the seed of a finetuning",
    "stages.rates.over=seed": "stage 'rates': .*exclude each other",
    "stages.stage3b_s0={kind: evaluate}": "two runs would have the name 'stage3b_s0'",
}


@pytest.mark.parametrize("override", WRONG)
def test_seeds_that_contradict_something_are_refused(override):
    more = ["stages.rates.values=[4, 5]"] if "over=seed" in override else []
    with pytest.raises(UserError, match=WRONG[override]):
        make_plan(settings(*([] if override.startswith("seeds") else [SEEDS]), override, *more))


@pytest.fixture(scope="module")
def reference():
    path = Path(__file__).parents[2] / "configs" / "ablation" / "ref_28m.yaml"
    return {job.name: job for job in make_plan(read_settings([path], []), "root").jobs()}


def test_the_reference_study_has_a_control_of_equal_tokens(reference):
    ours, control = reference["stage3b_s2"].config, reference["stage3a_s2"].config
    same = {"mask": "causal", "eval_masks": control.eval_masks, "decode_rows": 0}
    assert dataclasses.replace(ours, **same) == control
    assert ours.use == "last"
    assert reference["full3b_s0"].config.lora is None


def test_the_reference_study_scores_each_model_honestly_and_with_the_leak_as_a_probe(reference):
    for name in ("base_scored", "stage3a_scored_s0", "stage3b_scored_s1", "full3b_scored_s2"):
        config = reference[name].config
        assert config.masks == ("causal", "prefix_lm", "full_bidirectional")
        assert {"piqa", "recall_mcq", "null_mcq"} <= set(config.tasks)
        assert config.limit == 0 or config.subset == "random"
    assert reference["leak_s0"].config.decode_rows > 0


def test_the_reference_study_varies_steps_rate_and_master_weights_over_three_seeds(reference):
    for group, values in (("steps", 5), ("rates", 3), ("masters", 2)):
        found = [job for job in reference.values() if job.stage == group]
        assert len(found) == 3 * values
        assert {job.seed for job in found} == {0, 1, 2}
    scored = [job for job in reference.values() if job.stage == "steps_scored"]
    assert len(scored) == 15
