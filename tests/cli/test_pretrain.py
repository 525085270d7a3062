"""jaxablate pretrain: flags become settings, text becomes a run, wrong words become a sentence."""

import json

import pytest
import yaml

from jaxablate.cli import main
from jaxablate.core.files import read_json

CONFIG = """
name: small
shape: {layers: 1, hidden: 32, mlp: 64, heads: 2, kv_heads: 1, head_dim: 16, context: 64}
tokenizer: {vocab_size: 300, train_megabytes: 1}
data: {max_length: 32, held_out_share: 0.1, sources: [{kind: files, name: text, paths: [nothing]}]}
steps: 2
rows: 2
log_every: 1
step: {compute_dtype: float32}
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pretrain")
    (folder / "config.yaml").write_text(CONFIG + f"runs: {folder / 'runs'}\n")
    rows = [{"text": f"The cat number {n} sat by the window and saw the rain."} for n in range(60)]
    (folder / "notes.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder


def printed(place, capsys, *words):
    assert main(["pretrain", str(place / "config.yaml"), *words, "--print-config"]) == 0
    return yaml.safe_load(capsys.readouterr().out)


@pytest.mark.parametrize(
    ("words", "path", "value"),
    [
        (["--name", "other"], "name", "other"),
        (["--steps", "7"], "steps", 7),
        (["--rows", "8"], "rows", 8),
        (["--seed", "3"], "seed", 3),
        (["--mesh", "fsdp=2"], "mesh", "fsdp=2"),
        (["--out", "there"], "out", "there"),
    ],
)
def test_a_flag_sets_its_setting_and_no_other(place, capsys, words, path, value):
    before, after = printed(place, capsys), printed(place, capsys, *words)
    assert after[path] == value != before[path]
    assert {**after, path: None} == {**before, path: None}


def test_text_given_by_hand_replaces_the_sources(place, capsys):
    (source,) = printed(place, capsys, "--text", "a/*.txt", "--text", "b.jsonl")["data"]["sources"]
    assert source["kind"] == "files"
    assert source["paths"] == ["a/*.txt", "b.jsonl"]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--set", "shape.layer=2"], "did you mean 'layers'"),
        (["--text", "none/*.txt"], "no file matches"),
        (["--set", "shape.family=lama"], "did you mean 'llama'"),
    ],
)
def test_wrong_words_end_with_one_sentence_and_code_2(place, tmp_path, capsys, words, sentence):
    assert main(["pretrain", str(place / "config.yaml"), "--out", str(tmp_path / "x"), *words]) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1
    assert sentence in said[0]


def test_it_prepares_alone_then_trains_and_the_folder_can_be_scored(place, tmp_path, capsys):
    words = ["pretrain", str(place / "config.yaml"), "--text", str(place / "*.jsonl")]
    assert main([*words, "--prepare"]) == 0
    assert "prepared: " in capsys.readouterr().out
    assert not (tmp_path / "run").exists()
    assert main([*words, "--out", str(tmp_path / "run")]) == 0
    assert "2 of 2 steps" in capsys.readouterr().out
    assert read_json(tmp_path / "run" / "manifest.json")["kind"] == "pretrain"
    assert main([*words, "--out", str(tmp_path / "run"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["steps_done"] == 2
    assert main(["convert", str(tmp_path / "run"), str(tmp_path / "hf"), "--to", "hf"]) == 0
    assert (tmp_path / "hf" / "tokenizer.json").exists()
