"""What is written of an experiment: strict, with defaults, and the same after writing it out."""

import pytest
import yaml

from jaxablate.core.errors import UserError
from jaxablate.core.settings import parse_yaml
from jaxablate.experiments.dose import Dose
from jaxablate.experiments.guard import leaks
from jaxablate.experiments.plan import make_plan
from jaxablate.masks.parse import parse
from tests.experiments.small import plan, settings


def jobs(*overrides, text=None):
    found = plan("root", *overrides, **({"text": text} if text else {}))
    return {job.name: job for job in found.jobs()}


def test_defaults_reach_every_stage_and_a_stages_own_settings_win():
    found = jobs("stages.stage3b.schedule.peak=5e-4", "stages.stage1.limit=3")
    assert found["stage1"].config.limit == 3
    assert found["stage4"].config.limit == 4
    schedule = found["stage3b"].config.schedule
    assert (schedule.peak, schedule.warmup_steps) == (5e-4, 1)


def test_a_stages_model_is_the_folder_of_the_run_that_makes_it():
    found = jobs()
    assert found["stage4"].config.checkpoint == f"root/{found['stage3b'].run}"
    assert found["stage1"].config.checkpoint == f"root/{found['tiny_model'].run}/tiny"
    assert found["stage4"].needs == ("stage3b",)
    outside = jobs("checkpoint=some/model")["stage1"]
    assert (outside.config.checkpoint, outside.needs) == ("some/model", ())


def test_folders_are_named_by_what_decides_the_result_and_by_nothing_else():
    names = {name: job.run for name, job in jobs().items()}
    assert all(run.startswith(f"{name}-") for name, run in names.items())
    moved = {job.name: job.run for job in plan("/else/where").jobs()}
    assert moved == names
    operational = {job.run for job in jobs("finetune.save.every_steps=3").values()}
    assert operational == set(names.values())


def test_a_change_upstream_renames_everything_below_it_and_nothing_else():
    before = {name: job.run for name, job in jobs().items()}
    after = {name: job.run for name, job in jobs("stages.stage3b.steps=5").items()}
    changed = {name for name in before if before[name] != after[name]}
    # The sweep takes its settings from stage3b.
    assert changed == {"stage3b", "stage4", "dose", "rates-1e-05", "rates-2e-05"}
    seed = {name: job.run for name, job in jobs("stages.tiny_model.seed=1").items()}
    assert all(before[name] != seed[name] for name in before)


def test_a_sweep_is_one_run_a_value_with_the_settings_of_its_stage():
    found = jobs("stages.stage3b.steps=7")
    low, high = found["rates-1e-05"], found["rates-2e-05"]
    assert (low.config.schedule.peak, high.config.schedule.peak) == (1e-5, 2e-5)
    assert (low.config.steps, low.config.mask) == (7, "prefix_lm")
    assert low.entry()["sweep"] == {"setting": "schedule.peak", "value": 1e-5, "group": "rates"}
    own = jobs("stages.rates.steps=2")["rates-1e-05"]
    assert own.config.steps == 2


def test_a_sweep_may_go_over_words():
    found = jobs("stages.rates.over=mask", "stages.rates.values=[causal, prefix_lm]")
    assert [found[f"rates-{mask}"].config.mask for mask in ("causal", "prefix_lm")] == [
        "causal",
        "prefix_lm",
    ]


def test_a_dose_grows_layer_by_layer_or_head_by_head():
    masks = Dose(axis="heads", mask="causal | within(prompt)", counts=(0, 1, 3)).masks(4)
    assert masks == (
        "causal",
        "heads(0) & (causal | within(prompt)) | ~heads(0) & causal",
        "heads(0-2) & (causal | within(prompt)) | ~heads(0-2) & causal",
    )
    assert len(Dose().masks(3)) == 4
    assert [parse(mask).selects_heads for mask in masks] == [False, True, True]
    with pytest.raises(UserError, match="has 2 layers, a dose counts 3"):
        Dose(counts=(0, 3)).masks(2)


def test_a_dose_of_chosen_counts_is_written_as_masks_at_once():
    found = jobs("stages.dose.dose.counts=[0, 2]")["dose"]
    assert found.config.masks == ("causal", "layers(0-1) & prefix_lm | ~layers(0-1) & causal")


def test_what_is_written_out_in_full_means_the_same():
    first = plan("root", "stages.stage4.needs=[stage1]")
    again = make_plan(
        parse_yaml(yaml.safe_dump(first.resolved(), sort_keys=False), "again"), "root"
    )
    assert [job.run for job in again.jobs()] == [job.run for job in first.jobs()]
    assert again.needs == first.needs
    assert again.fingerprint == first.fingerprint


def test_the_fingerprint_knows_the_criteria():
    prints = {plan("root", *more).fingerprint for more in ((), ("criteria.gain=0.1",))}
    assert len(prints) == 2


WRONG = {
    "stagse={}": "unknown setting 'stagse'.*did you mean 'stages'",
    "criteria.recovry=1": "unknown setting 'criteria.recovry'.*did you mean 'recovery'",
    "criteria.recovery=2": r"criteria.recovery must be in 0\.\.1, got 2",
    "criteria.tuned=stage3": "criteria.tuned.*'stage3'.*did you mean 'stage3b'",
    "criteria.mask=prefx_lm": "unknown name 'prefx_lm'",
    "stages.stage1.kind=evaluat": "stage 'stage1': unknown kind of stage 'evaluat'.*'evaluate'",
    "stages.stage1.mask=causal": "stage 'stage1': .*'mask'; known: .*did you mean 'masks'",
    "stages.stage1.checkpoint=x": "stage 'stage1': .*unknown setting.*'checkpoint'",
    "stages.stage1.tasks=piqa": "stage 'stage1': .*'tasks' must be a list",
    "stages.stage1.masks=[casual]": "stage 'stage1': .*did you mean 'causal'",
    "stages.stage1.model=stage3": "'stage1' needs 'stage3', which is no stage.*'stage3b'",
    "stages.stage1.model=stage4": "model 'stage4' is of kind 'evaluate', which makes no",
    "stages.more={kind: finetune, model: rates}": "'rates' is of kind 'sweep', which makes no",
    "stages.stage3b.needs=[stage4]": "circle: stage3b -> stage4 -> stage3b",
    "stages.stage3b.stop=3": "'stop' must be a table",
    "stages.stage3b.schedule.peek=1": "unknown setting 'schedule.peek'.*did you mean",
    "stages.stage3b.rows=0": "stage 'stage3b': rows must be >= 1, got 0",
    "stages.rates.over=schedule.peek": "stage 'rates': .*unknown setting 'schedule.peek'",
    "stages.rates.of=stage4": "unknown finetuning stage 'stage4'; known: stage3b",
    "stages.rates.values=[1e-5, 1e-5]": "value 1e-05 twice",
    "stages.rates.values=[[1]]": r"numbers or words, got \[1\]",
    "stages.rates.values=[]": "at least one value",
    "stages.dose.masks=[causal]": "masks or a dose, not both",
    "stages.dose.dose.axis=layer": "did you mean 'layers'",
    "stages.dose.dose.counts=[2, 1]": r"dose.counts rise and are >= 0, got \[2, 1\]",
    "stages.tiny_model.model=base": "'tiny_model' makes a model and has none",
    "stages.tiny_model.size=3": "unknown setting of a stage of kind 'model' 'size'",
    "evaluate.taks=[piqa]": "unknown setting of 'evaluate' 'taks'.*did you mean 'tasks'",
    "evaluate=3": "'evaluate' must be a table",
    "stages.stage1=3": "'stages.stage1' must be a table",
    "stages.Stage-6={kind: model}": "a stage's name is made of",
    "name=a b": "name is made of",
}


@pytest.mark.parametrize("override", WRONG)
def test_a_wrong_setting_is_named_with_its_stage(override):
    with pytest.raises(UserError, match=WRONG[override]):
        make_plan(settings(override), "root")


def test_an_error_says_where_the_setting_was_written():
    with pytest.raises(UserError, match=r"small.yaml:5: setting 'tasks' must be a list"):
        make_plan(settings(text=_text("tasks: [piqa]", "tasks: piqa")), "root")


def _text(old, new):
    from tests.experiments.small import TEXT

    assert old in TEXT
    return TEXT.replace(old, new)


@pytest.mark.parametrize(
    ("mask", "leaky"),
    [
        ("causal", False),
        ("prefix_lm", False),
        ("segment_bidirectional", False),
        ("full_bidirectional", True),
        ("window(3, 2)", True),
        ("layers(0-27) & prefix_lm | ~layers(0-27) & full_bidirectional", False),
        ("layers(3) & full_bidirectional | ~layers(3) & causal", True),
        ("heads(0-31) & prefix_lm | ~heads(0-31) & full_bidirectional", False),
        ("heads(7) & full_bidirectional | ~heads(7) & causal", True),
    ],
)
def test_the_early_guard_finds_leaks_and_never_refuses_wrongly(mask, leaky):
    assert leaks(parse(mask)).leaks is leaky
