"""`jaxablate mask` draws."""

from jaxablate.cli import main

DRAWING = """causal | within(prompt)

  PPRR
P ##..
P ##..
R ###.
R ####
"""


def test_it_draws_the_algebra_and_the_picture(capsys):
    assert main(["mask", "prefix_lm", "--layout", "P2 R2"]) == 0
    assert capsys.readouterr().out == DRAWING


def test_layer_and_head_choose_what_is_drawn(capsys):
    mask = "layers(1) & heads(2) & causal"
    open_cells = []
    for words in (["--layer", "1"], ["--layer", "1", "--head", "2"], ["--head", "2"]):
        assert main(["mask", mask, "--layout", "P3", *words]) == 0
        open_cells.append(capsys.readouterr().out.count("#"))
    assert open_cells == [0, 6, 0]


def test_the_default_layout_has_a_prompt_and_a_response(capsys):
    assert main(["mask", "causal"]) == 0
    assert "PPPPRRR" in capsys.readouterr().out


def test_it_lists_what_there_is(capsys):
    assert main(["mask", "--list"]) == 0
    listed = capsys.readouterr().out
    assert "\nprefix_lm " in listed
    assert "\nwithin(role) " in listed


def test_it_writes_a_png(tmp_path, capsys):
    path = tmp_path / "mask.png"
    assert main(["mask", "causal", "--png", str(path)]) == 0
    assert path.read_bytes().startswith(b"\x89PNG")
    assert "#" in capsys.readouterr().out


def test_kernels_are_shown_with_the_reasons_of_those_that_decline(capsys):
    assert main(["mask", "prefix_lm", "--kernels", "128"]) == 0
    shown = capsys.readouterr().out
    assert "gpu: cudnn (the mask is 'prefix' here)" in shown
    assert "cpu: xla" in shown
    assert "cudnn declines: needs an NVIDIA GPU, got cpu" in shown
