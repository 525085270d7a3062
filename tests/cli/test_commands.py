"""convert, probe and report on a tiny checkpoint."""

import json

import pytest

from jaxablate.cli import main
from tests.reports.folders import write_run


def test_there_and_back_keeps_every_bit(tiny, tmp_path, capsys):
    from safetensors.numpy import load_file

    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    assert main(["convert", str(tiny), str(ours)]) == 0
    assert f"{ours}: jaxablate format" in capsys.readouterr().out
    assert main(["convert", str(ours), str(theirs), "--to", "hf"]) == 0
    first, second = (load_file(folder / "model.safetensors") for folder in (tiny, theirs))
    assert first.keys() == second.keys()
    assert all((first[name] == second[name]).all() for name in first)
    assert (theirs / "tokenizer.json").read_bytes() == (tiny / "tokenizer.json").read_bytes()


def test_dtype_changes_the_weights_type(tiny, tmp_path):
    assert main(["convert", str(tiny), str(tmp_path / "a"), "--to", "hf", "--dtype", "bf16"]) == 0
    assert json.loads((tmp_path / "a" / "config.json").read_text())["dtype"] == "bfloat16"


def test_a_folder_that_holds_something_is_not_written_to(tiny, tmp_path, capsys):
    (tmp_path / "mine").write_text("precious")
    assert main(["convert", str(tiny), str(tmp_path)]) == 2
    assert "not empty" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_a_local_folder_has_no_revision(tiny, tmp_path, capsys):
    assert main(["convert", str(tiny), str(tmp_path / "a"), "--revision", "main"]) == 2
    assert "no revision 'main'" in capsys.readouterr().err


def test_the_probe_tells_leaky_from_clean(tiny, capsys):
    words = ["probe", "leakage", str(tiny), "--mask", "causal,prefix_lm"]
    words += ["--mask", "full_bidirectional", "--rows", "2", "--prompt", "4", "--response", "3"]
    assert main([*words, "--json"]) == 0
    causal, prefix, full = json.loads(capsys.readouterr().out)
    assert [found["leaks"] for found in (causal, prefix, full)] == [False, False, True]
    assert causal["prompt_change"] == 0 < prefix["prompt_change"]
    assert (causal["rows"], causal["prompt_length"], causal["response_length"]) == (2, 4, 3)
    assert main(words) == 0
    lines = capsys.readouterr().out.splitlines()
    assert sum("LEAKY" in line for line in lines) == 1
    assert sum("clean" in line for line in lines) == 2


def test_the_probes_seed_and_dtype_matter(tiny, capsys):
    words = ["probe", "leakage", str(tiny), "--mask", "causal", "--rows", "1", "--json"]
    found = []
    for more in ([], ["--seed", "1"], ["--dtype", "bfloat16"]):
        assert main([*words, *more]) == 0
        (result,) = json.loads(capsys.readouterr().out)
        found.append(result)
    assert found[0]["decode_loss"] != found[1]["decode_loss"]
    assert [result["dtype"] for result in found] == ["float32", "float32", "bfloat16"]


@pytest.fixture
def runs(tmp_path):
    right, wrong = [True] * 20, [True, False] * 10
    answers = [{"causal": {"a": right}, "prefix_lm": {"a": wrong}}, {"causal": {"a": wrong}}]
    return [str(write_run(tmp_path / f"run{i}", table)) for i, table in enumerate(answers)]


def test_a_report_is_written_beside_the_run_or_where_asked(runs, tmp_path, capsys):
    assert main(["report", runs[0]]) == 0
    assert capsys.readouterr().out == f"{runs[0]}/report.html\n{runs[0]}/report.md\n"
    assert main(["report", runs[0], "--out", str(tmp_path / "deep" / "page.html")]) == 0
    assert sorted(path.name for path in (tmp_path / "deep").iterdir()) == ["page.html", "page.md"]


def test_report_flags_have_their_effect(runs, tmp_path, capsys):
    pages = {}
    for name, words in {
        "plain": [runs[0]],
        "title": [runs[0], "--title", "My title"],
        "baseline": [runs[0], "--baseline", "prefix_lm"],
        "both": runs,
        "compare": [*runs, "--compare"],
    }.items():
        assert main(["report", *words, "--out", str(tmp_path / name)]) == 0
        pages[name] = (tmp_path / f"{name}.md").read_text()
    assert pages["title"].startswith("# My title\n")
    assert "| -0.500 |" in pages["plain"]
    assert "| +0.500 |" in pages["baseline"]
    assert "run1: causal | 20 | -0.500" not in pages["both"]
    assert "run1: causal | 20 | -0.500" in pages["compare"]
    assert len(set(pages.values())) == len(pages)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["report", "nowhere"], "no such run folder"),
        (["report"], "RUN"),
        (["report", "{0}", "{1}"], "give --out"),
        (["report", "{0}", "--compare"], "two or more runs"),
        (["report", "{0}", "--baseline", "causl"], "did you mean 'causal'"),
        (["report", "{0}", "{0}", "--out", "x"], "given twice"),
    ],
)
def test_wrong_report_words_end_with_two(words, told, runs, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    assert main([word.format(*runs) for word in words]) == 2
    error = capsys.readouterr().err
    assert told in error
    assert error.count("\n") == 1
    assert sorted(tmp_path.rglob("*")) == before
