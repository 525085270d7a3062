"""Model cards out of run folders."""

import json
import re
import shutil

import pytest
import yaml

from jaxablate.cli.entry import main
from jaxablate.core.errors import UserError
from jaxablate.core.files import write_json
from jaxablate.reports.card import CardConfig, build_card, write_card
from jaxablate.reports.card_training import amount
from jaxablate.reports.lineage import load_lineage
from jaxablate.reports.render import card_markdown
from tests.reports.pretrainings import config_of, write_reference
from tests.reports.test_works import TABLE


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_reference(tmp_path_factory.mktemp("card") / "ref")


def card(root, model="instruct", **settings):
    return card_markdown(build_card(load_lineage(root, model), CardConfig(**settings), "loss.png"))


@pytest.fixture(scope="module")
def text(root, tmp_path_factory):
    works = tmp_path_factory.mktemp("works") / "works.tsv"
    works.write_text(TABLE)
    return card(root, works=str(works), notes=("Half of the official rows.",))


def rows(text, heading):
    """Cells of the first table below a heading, without its head."""
    lines = text.split(f"{heading}\n", 1)[1].splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("|---"))
    table = []
    for line in lines[start + 1 :]:
        if not line.startswith("|"):
            break
        table.append([cell.strip() for cell in line.strip("|").split(" | ")])
    return table


def test_the_front_matter_is_what_the_hub_reads(text):
    head = yaml.safe_load(text.split("---\n")[1])
    assert text.startswith("---\n")
    assert (head["license"], head["language"]) == ("cc-by-sa-4.0", ["en"])
    assert head["pipeline_tag"] == "text-generation"
    assert "attention-masks" in head["tags"]


def test_licence_language_and_name_can_be_given(root):
    text = card(root, licence="apache-2.0", languages=("de", "en"), name="mine")
    head = yaml.safe_load(text.split("---\n")[1])
    assert (head["license"], head["language"]) == ("apache-2.0", ["de", "en"])
    assert "\n# mine\n" in text
    assert "share-alike" not in text


@pytest.mark.parametrize("licence", ["a: b", "x\ny", ""])
def test_a_licence_that_is_no_short_name_is_refused(root, licence):
    with pytest.raises(UserError, match="short names"):
        card(root, licence=licence)


def test_equal_folders_elsewhere_give_equal_bytes_without_a_place_or_a_date(root, tmp_path):
    first = write_card(root, "instruct", tmp_path / "a" / "README.md")
    shutil.copytree(root, tmp_path / "moved" / "there")
    second = write_card(tmp_path / "moved" / "there", "instruct", tmp_path / "b" / "README.md")
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
    text = first[0].read_text()
    assert not re.search(r"/far/away|/tmp|/work|2026-01", text)


def test_scores_have_interval_chance_n_and_verdict_under_every_mask(text):
    found = rows(text, "### Instruments")
    assert [row[:2] for row in found] == [
        ["recall", "causal"],
        ["recall", r"prefix\_lm"],
        [r"null\_mcq", "causal"],
        [r"null\_mcq", r"prefix\_lm"],
    ]
    assert found[0][2:4] == ["300", "0.990"]
    assert re.fullmatch(r"0\.9\d\d to \d\.\d\d\d", found[0][4])
    assert found[0][5:] == ["0.500", "above chance"]
    assert rows(text, "### Scores")[0][6] == "not distinguishable from chance"


def test_what_it_can_do_is_said_from_the_numbers(text):
    said = text.split("## What it can")[1].split("## Scores")[0]
    assert (
        "Under causal, above chance on: arc\\_easy 0.900 (chance 0.500), recall 0.990 (chance "
        "0.500)." in said
    )
    assert (
        "Under causal, not distinguishable from chance on: piqa 0.550 (chance 0.500), null\\_mcq "
        "0.500 (chance 0.500)." in said
    )
    assert "Half of the official rows." in text
    assert "piqa: 4 of 9 rows of the split" in text


def test_a_leaky_mask_is_marked_and_measures_no_skill(tmp_path):
    root = write_reference(tmp_path / "ref", masks=("causal", "full"), leaky=("full",), items=20)
    text = card(root)
    assert "Under full an answer can see itself; its scores do not measure skill." in text
    assert "above chance on: arc\\_easy" in text
    assert "Under full, above" not in text
    assert "| full **LEAKY** |" in text


def test_a_canary_above_chance_is_said_to_leak(tmp_path):
    root = write_reference(tmp_path / "ref", scores={"instruments": {"null_mcq": 0.9}})
    path = next(root.glob("instruments-*")) / "metrics.json"
    metrics = json.loads(path.read_text())
    for result in metrics["results"]:
        result["tasks"][0] |= {"instrument": True, "canary": True}
    write_json(path, metrics)
    assert "(whose answers nobody can know): ABOVE CHANCE: the scoring leaks." in card(root)


def test_a_model_that_was_not_scored_says_so(root):
    text = card(root, model="text")
    assert "It was not scored on any task." in text
    assert "## Scores" not in text
    assert "then finetuned" not in text


def test_texts_stand_with_share_licence_and_what_was_cut_out(text):
    books, arc, recall, wikitext = rows(text, "## Text")
    assert books[:6] == ["books", "40", "6,000", "1", "60.0 %", "0"]
    assert arc[3:7] == ["3", "30.0 %", "5", "CC-BY-SA-4.0"]
    assert recall[-1] == "made by jaxablate"
    assert wikitext[3:5] == ["held out", "-"]
    assert "An epoch has 10,000 tokens; 1,280 were read, 0.13 epochs." in text
    assert "Instructions: the set instructions (Apache-2.0)." in text


def test_licences_and_authors_are_named(text):
    assert "licensed under cc-by-sa-4.0. Why share-alike: so is the text of arc\\_easy." in text
    assert "Textbooks by OpenStax, Rice University, licensed under CC BY 4.0" in text
    assert "Access for free at https://openstax.org" in text
    assert "arXiv 1803.05457" in text
    assert "PIQA" not in text
    assert "hold the views of their time" in text
    assert "<summary>2 works: public domain</summary>\n\nAlice; Anna Sewell Black Beauty." in text
    assert "| us history | github.com/openstax |" in text


def test_without_old_books_nothing_is_said_of_them(tmp_path):
    root = write_reference(tmp_path / "ref", scores={})
    path = next(root.glob("text-*")) / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["records"]["sources"]["books"]["licence"] = "MIT"
    write_json(path, manifest)
    text = card(root)
    assert "views of their time" not in text
    assert "OpenStax" not in text


def test_what_was_protected_is_said_with_rows_where_the_same_file_was_asked(text):
    part = text.split("### What was kept out")[1].split("## Training")[0]
    assert "of piqa, squad." in part
    assert "shares 13 words in a row" in part
    assert "Places found: 5 (arc\\_easy 5)." in part


def test_rows_of_the_file_that_was_protected_are_counted(tmp_path):
    root = write_reference(tmp_path / "ref", items=20)
    path = next(root.glob("scores-*")) / "manifest.json"
    manifest = json.loads(path.read_text())
    for facts in manifest["data"].values():
        facts |= {"split": "validation", "origin": "validation.jsonl.gz"}
    write_json(path, manifest)
    assert "of piqa (9 rows), squad." in card(root)
    manifest["data"]["piqa"]["origin"] = "bundled benchmarks"
    write_json(path, manifest)
    assert "of piqa, squad." in card(root)


def test_nothing_protected_is_said(tmp_path):
    root = write_reference(tmp_path / "ref", scores={})
    path = next(root.glob("text-*")) / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["config"]["data"]["protect"]["tasks"] = []
    write_json(path, manifest)
    assert "Nothing was protected" in card(root)


def test_sizes_and_trainings_stand_side_by_side(text):
    assert ["parameters", "35,200"] in rows(text, "## Sizes")
    assert ["layers", "6"] in rows(text, "## Sizes")
    table = {row[0]: row[1:] for row in rows(text, "## Training")}
    assert table["steps"] == ["20 of 20", "10 of 10"]
    assert table["device"] == ["1 x NVIDIA H200", "1 x NVIDIA H200"]
    assert table["seconds"] == ["300", "8"]
    assert table["optimiser"][0] == r"adamw, weight\_decay 0.1"
    assert table["schedule"][0] == "cosine, peak 0.002"
    assert table["training loss at the end"] == ["2.800", "2.900"]
    assert table["held-out loss under causal, nats a token"] == ["4.000", "3.500"]
    assert table["held-out perplexity under causal"] == ["54.6", "33.1"]


def test_command_and_config_are_there_without_places(text):
    assert "```sh\njaxablate run ref.yaml --out runs/ref\n```" in text
    told = yaml.safe_load(text.split("```yaml\n")[1].split("```")[0])
    assert list(told["stages"]) == ["text", "instruct", "scores", "instruments"]
    assert told["stages"]["text"]["shape"] == config_of()["shape"]
    assert told["stages"]["instruct"]["model"] == "text"
    assert told["stages"]["scores"]["model"] == "instruct"
    assert "checkpoint" not in told["stages"]["scores"]


def test_every_run_is_named_with_its_fingerprint(root, text):
    names = sorted(row[2] for row in rows(text, "### Runs"))
    assert names == sorted(path.name for path in root.iterdir() if path.is_dir())
    assert "e" * 64 in text


def test_a_hostile_name_is_no_markup(tmp_path):
    root = write_reference(tmp_path / "ref", scores={})
    text = card(root, name="<b>x</b> | [y](z)\n# w")
    assert "<b>" not in text
    assert "[y]" not in text
    assert "\n# w" not in text


def test_a_setting_cannot_end_the_block_of_code(tmp_path):
    root = write_reference(tmp_path / "ref", scores={})
    path = next(root.glob("text-*")) / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["config"]["note"] = "x\n```\n# heading"
    write_json(path, manifest)
    text = card(root)
    assert "\n````yaml\n" in text
    assert text.count("\n````\n") == 2


def test_a_model_that_began_elsewhere_is_refused(tmp_path):
    root = write_reference(tmp_path / "ref", items=20)
    path = next(root.glob("instruct-*")) / "manifest.json"
    manifest = json.loads(path.read_text())
    write_json(path, manifest | {"source": {"path": "some/model"}})
    with pytest.raises(UserError, match="trained from nothing"):
        card(root)


def test_the_command_writes_card_and_picture(root, tmp_path, capsys):
    out = tmp_path / "new" / "CARD.md"
    assert main(["card", str(root), "--model", "instruct", "--out", str(out)]) == 0
    assert capsys.readouterr().out.split() == [str(out), str(out.with_name("CARD-loss.png"))]
    assert "(CARD-loss.png)" in out.read_text()
    assert out.with_name("CARD-loss.png").read_bytes().startswith(b"\x89PNG")
    assert main(["card", str(root), "--model", "nobody", "--out", str(out)]) == 2
    assert "'nobody'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("number", "words"), [(999_999, "999,999"), (1_000_000, "1.0 million"), (8, "8")]
)
def test_amounts(number, words):
    assert amount(number) == words
