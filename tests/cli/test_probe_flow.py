"""`jaxablate probe flow` measures, compares with the mask, and draws."""

import json

import pytest

from jaxablate.cli import main


def test_the_flow_probe_measures_what_the_mask_says_and_draws_it(tiny, tmp_path, capsys):
    words = ["probe", "flow", str(tiny), "--mask", "prefix_lm,full_bidirectional"]
    words += ["--prompt", "4", "--response", "3"]
    picture = tmp_path / "flow.png"
    assert main([*words, "--out", str(picture)]) == 0
    lines = capsys.readouterr().out.splitlines()
    prefix, full = (line for line in lines if " of 3 " in line)
    assert prefix.split() == ["prefix_lm", "clean", "0", "of", "3", "34", "34"]
    assert full.split() == ["full_bidirectional", "LEAKY", "3", "of", "3", "49", "49"]
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert main([*words, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [result["leaks"] for result in found] == [[], [3, 4, 5]]


@pytest.mark.parametrize("words", [["flow", "--out", "a.pdf"], ["leakage", "--out", "a.png"]])
def test_only_the_flow_is_drawn_and_as_png(tiny, words, capsys):
    assert main(["probe", words[0], str(tiny), "--mask", "causal", *words[1:]]) == 2
    assert "--out" in capsys.readouterr().err
