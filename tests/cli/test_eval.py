"""Every flag of `jaxablate eval` has its effect, and wrong settings end with one sentence."""

import json

import pytest
import yaml

from jaxablate.cli import main

BASE = ["--tasks", "piqa", "--data", "samples"]
DEFAULTS = {"variant": "standard", "dtype": "float32", "bos": "auto", "limit": 0}


def print_config(capsys, *words):
    assert main(["eval", *words, "--print-config"]) == 0
    return yaml.safe_load(capsys.readouterr().out)


@pytest.mark.parametrize(
    ("words", "setting", "value"),
    [
        (["other"], "checkpoint", "other"),
        (["--tasks", "piqa,arc_easy"], "tasks", ["piqa", "arc_easy"]),
        (["--tasks", "piqa", "--tasks", "arc_easy"], "tasks", ["piqa", "arc_easy"]),
        (["--masks", "causal,prefix_lm"], "masks", ["causal", "prefix_lm"]),
        (
            ["--masks", "window(4, 2)", "--masks", "layers(0, 1) & causal"],
            "masks",
            ["window(4, 2)", "layers(0, 1) & causal"],
        ),
        (["--variant", "compat"], "variant", "compat"),
        (["--split", "test"], "split", "test"),
        (["--limit", "7"], "limit", 7),
        (["--dtype", "bf16"], "dtype", "bfloat16"),
        (["--bos", "no"], "bos", "no"),
        (["--data", "1e3"], "data", "1e3"),
        (["--rows-per-batch", "4"], "rows_per_batch", 4),
        (["--mesh", "fsdp=2"], "mesh", "fsdp=2"),
        (["--out", "007"], "out", "007"),
        (["--allow-leaky"], "allow_leaky", True),
        (["--set", "seed=3"], "seed", 3),
        (["--set", "subset=random", "--set", "subset_seed=9"], "subset_seed", 9),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else str(value),
)
def test_a_flag_sets_its_setting_and_no_other(words, setting, value, capsys):
    plain = print_config(capsys, "model", "--tasks", "piqa")
    checkpoint = [] if words == ["other"] else ["model"]
    tasks = [] if words[0] == "--tasks" else ["--tasks", "piqa"]
    found = print_config(capsys, *checkpoint, *tasks, *words)
    assert found[setting] == value
    assert found[setting] != plain[setting]
    others = set(plain) - {setting, "subset"}
    assert {name: found[name] for name in others} == {name: plain[name] for name in others}


def test_what_is_printed_is_a_config_file_with_the_same_meaning(capsys, tmp_path):
    words = [
        "model",
        "--tasks",
        "piqa",
        "--masks",
        "layers(0) & causal | prefix_lm",
        "--limit",
        "5",
    ]
    found = print_config(capsys, *words)
    file = tmp_path / "again.yaml"
    file.write_text(yaml.safe_dump(found))
    assert print_config(capsys, "--config", str(file)) == found


def test_the_later_of_file_flag_and_set_wins(capsys, tmp_path):
    first, second = tmp_path / "a.yaml", tmp_path / "b.yaml"
    first.write_text("checkpoint: m\ntasks: [piqa]\nlimit: 1\nseed: 1\nsplit: a\n")
    second.write_text("limit: 2\nseed: 2\n")
    files = ["--config", str(first), "--config", str(second)]
    found = print_config(capsys, *files, "--limit", "3", "--set", "seed=5")
    assert (found["limit"], found["seed"], found["split"]) == (3, 5, "a")
    assert print_config(capsys, *files, "--limit", "3", "--set", "limit=4")["limit"] == 4


def run_eval(capsys, *words):
    assert main(["eval", *map(str, words)]) == 0
    return capsys.readouterr()


def test_it_scores_and_says_where(tiny, tmp_path, capsys):
    out = tmp_path / "run"
    words = [tiny, *BASE, "--masks", "causal,prefix_lm", "--limit", "6", "--out", out]
    shown = run_eval(capsys, *words)
    assert f"run folder: {out}\n" in shown.out
    assert "prefix_lm" in shown.out
    metrics = json.loads((out / "metrics.json").read_text())
    assert [result["name"] for result in metrics["results"]] == ["causal", "prefix_lm"]
    assert metrics["results"][0]["tasks"][0]["total"] == 6
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["provenance"]["limit"] == "--limit"
    assert manifest["provenance"]["checkpoint"] == "the command line"
    before = (out / "metrics.json").stat().st_mtime_ns
    assert run_eval(capsys, *words, "--json").out == json.dumps(metrics, indent=1) + "\n"
    assert (out / "metrics.json").stat().st_mtime_ns == before


def test_a_leaky_mask_is_refused_by_a_sentence_and_stamped_when_allowed(tiny, tmp_path, capsys):
    out = tmp_path / "run"
    words = ["eval", str(tiny), *BASE, "--masks", "full_bidirectional", "--limit", "4"]
    words += ["--out", str(out)]
    assert main(words) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "can see its own target" in error
    assert not out.exists()
    assert main([*words, "--allow-leaky"]) == 0
    assert "full_bidirectional LEAKY" in capsys.readouterr().out


def test_another_config_in_the_same_folder_is_refused_and_nothing_is_touched(
    tiny, tmp_path, capsys
):
    out = tmp_path / "run"
    run_eval(capsys, tiny, *BASE, "--limit", "4", "--out", out)
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    assert main(["eval", str(tiny), *BASE, "--limit", "5", "--out", str(out)]) == 2
    assert "limit: 4 -> 5" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in before} == before


WRONG = [
    (["m", "--tasks", "piqua"], "unknown task 'piqua'", "'piqa'"),
    (["m"], "'tasks' is required", "tasks"),
    (["--tasks", "piqa"], "'checkpoint' is required", "checkpoint"),
    (["m", *BASE, "--masks", "prefx_lm"], "unknown name 'prefx_lm'", "'prefix_lm'"),
    (["m", *BASE, "--masks", "causal,causal"], "mask 'causal'", "twice"),
    (["m", *BASE, "--masks", ","], "at least one mask", "none"),
    (["m", *BASE, "--variant", "standart"], "'standart'", "'standard'"),
    (["m", *BASE, "--limit", "many"], "--limit", "an integer, got 'many'"),
    (["m", *BASE, "--limit", "-1"], "limit must be >= 0", "-1"),
    (["m", *BASE, "--dtype", "int8"], "unknown dtype 'int8'", "bfloat16"),
    (["m", *BASE, "--bos", "maybe"], "'maybe'", "auto, yes, no"),
    (["m", *BASE, "--set", "limitt=3"], "unknown setting 'limitt'", "'limit'"),
    (["m", *BASE, "--set", "limit"], "key=value", "'limit'"),
    (["m", *BASE, "--config", "nowhere.yaml"], "nowhere.yaml", "No such file"),
    (["./nowhere", *BASE], "no such folder", "nowhere"),
]


@pytest.mark.parametrize(("words", "got", "wanted"), WRONG, ids=[" ".join(w[0]) for w in WRONG])
def test_wrong_settings_end_with_two_and_one_sentence(
    words, got, wanted, capsys, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    assert main(["eval", *words]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert got in shown.err
    assert wanted in shown.err
    assert shown.err.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_wrong_key_in_a_file_names_the_line(tmp_path, capsys):
    file = tmp_path / "a.yaml"
    file.write_text("checkpoint: m\ntasks: [piqa]\nmaskes: [causal]\n")
    assert main(["eval", "--config", str(file)]) == 2
    error = capsys.readouterr().err
    assert f"{file}:3: unknown setting 'maskes'" in error
    assert "did you mean 'masks'" in error


def test_every_shipped_config_is_valid(capsys):
    from pathlib import Path

    files = sorted((Path(__file__).parents[2] / "configs" / "eval").glob("*.yaml"))
    assert files
    for file in files:
        assert (
            print_config(capsys, "some/model", "--config", str(file))["checkpoint"] == "some/model"
        )
