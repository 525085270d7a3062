"""Every command starts fast, teaches, and ends with one sentence when the words are wrong."""

import os
import signal
import subprocess
import sys
import time

import pytest

from jaxablate.cli import main
from jaxablate.cli.entry import COMMANDS

NAMES = sorted(COMMANDS)


def run(*words, **settings):
    command = [sys.executable, "-m", "jaxablate", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, **settings)


@pytest.mark.parametrize("words", [["--help"], *([name, "--help"] for name in NAMES)])
def test_help_shows_examples_and_ends_with_zero(words, capsys):
    assert main(words) == 0
    shown = capsys.readouterr().out
    assert "examples:\n  jaxablate" in shown
    assert shown.startswith("usage: jaxablate")


def test_help_of_a_command_by_the_word_help(capsys):
    assert main(["help", "eval"]) == 0
    assert "--masks" in capsys.readouterr().out


def test_no_help_imports_jax_and_each_is_fast():
    """One process for all commands: a heavy import by any of them shows at the end."""
    code = (
        "import signal, sys, time\n"
        # A shell starts what it puts in the background with this signal ignored.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "start = time.perf_counter()\n"
        "from jaxablate.cli import main\n"
        f"for name in {NAMES}:\n"
        "    assert main([name, '--help']) == 0\n"
        "print(time.perf_counter() - start)\n"
        "heavy = {'jax', 'jaxlib', 'flax', 'numpy', 'matplotlib', 'jinja2', 'rich', 'tokenizers'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    seconds, heavy = done.stdout.splitlines()[-2:]
    assert heavy == "[]", done.stderr
    assert float(seconds) < 0.5 * len(NAMES)


def test_help_takes_less_than_half_a_second():
    times = []
    for _ in range(3):
        start = time.perf_counter()
        assert run("--help").returncode == 0
        times.append(time.perf_counter() - start)
    assert min(times) < 0.5


def test_the_script_and_the_module_are_the_same():
    assert run("--version").stdout == "jaxablate 0.1.0\n"


def test_without_words_it_shows_help_on_stderr_and_ends_with_two(capsys):
    assert main([]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "usage: jaxablate" in shown.err


WRONG = [
    (["evl"], "unknown command 'evl'", "did you mean 'eval'?"),
    (["--nope"], "unknown option", "--nope"),
    (["mask", "--layoot", "P1"], "unknown option", "did you mean '--layout'?"),
    (["mask", "causal", "--lay", "P1"], "unknown option", "'--lay'"),
    (["mask", "casual"], "unknown name 'casual'", "did you mean 'causal'?"),
    (["mask", "causal &"], "mask, column 9", "the end"),
    (["mask", "causal", "--layout", "P4 X2"], "'X2'", "as in 'P4 R3'"),
    (["mask", "causal", "--layer", "-1"], "--layer", ">= 0, got '-1'"),
    (["mask", "causal", "--layer", "two"], "--layer", "got 'two'"),
    (["mask", "causal", "--layer"], "--layer", "expected one argument"),
    (["mask", "causal", "full"], "'full'", "too many"),
    (["mask"], "give a mask", "--list"),
    (["mask", "causal", "--png", "a.svg"], ".png", "'a.svg'"),
    (["mask", "causal", "--png", "no/such/folder/a.png"], "no/such/folder", "no such file"),
    (["convert", "here"], "out", "required"),
    (["convert", "no-such-folder/x/y", "out"], "no such folder", "no-such-folder"),
    (["convert", "a", "b", "--to", "onnx"], "unknown format 'onnx'", "hf, jaxablate"),
    (["convert", "a", "b", "--dtype", "int8"], "unknown dtype 'int8'", "bfloat16"),
    (["probe", "leakge", "x", "--mask", "causal"], "unknown probe 'leakge'", "'leakage'"),
    (["probe", "leakage", "x"], "--mask", "required"),
    (["probe", "leakage", "x", "--mask", "prefx_lm"], "unknown name", "'prefix_lm'"),
    (["probe", "leakage", "./nowhere", "--mask", "causal"], "no such folder", "nowhere"),
    (["probe", "leakage", "x", "--mask", "causal", "--prompt", "1"], "--prompt", ">= 2"),
    (["env", "--jsn"], "unknown option", "'--json'"),
]


@pytest.mark.parametrize(("words", "got", "wanted"), WRONG, ids=[" ".join(w[0]) for w in WRONG])
def test_wrong_words_end_with_two_and_one_sentence(
    words, got, wanted, capsys, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    assert main(words) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert got in shown.err
    assert wanted in shown.err
    assert shown.err.startswith("jaxablate: ")
    assert shown.err.count("\n") == 1
    assert "Traceback" not in shown.err
    assert not list(tmp_path.iterdir())


def test_debug_gives_the_traceback():
    done = run("--debug", "evl")
    assert "Traceback" in done.stderr
    assert "unknown command 'evl'" in done.stderr


def test_control_characters_of_an_argument_are_spelled_out(capsys):
    assert main(["\x1b]0;title\x07\u202e"]) == 2
    error = capsys.readouterr().err
    assert "\x1b" not in error
    assert "\u202e" not in error
    assert "\\x1b" in error


def test_a_closed_pipe_is_quiet():
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-m", "jaxablate", "mask", "--list"],
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, "")


def test_ctrl_c_ends_with_130_and_one_line():
    code = (
        "import signal, sys, time\n"
        # A shell starts what it puts in the background with this signal ignored.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from jaxablate.cli import entry\n"
        "import jaxablate.cli.env as env\n"
        "def wait(args):\n"
        "    print('ready', flush=True)\n"
        "    while True: time.sleep(0.05)\n"
        "env.run = wait\n"
        "sys.exit(entry.main(['env']))\n"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert child.stdout.readline() == "ready\n"
    child.send_signal(signal.SIGINT)
    _, error = child.communicate(timeout=60)
    assert child.returncode == 130
    assert error == "jaxablate: interrupted; run the same command again to go on\n"


def test_a_full_disk_is_a_failure_not_a_usage_error(monkeypatch, capsys):
    import errno

    from jaxablate.cli import env

    def fail(args):
        raise OSError(errno.ENOSPC, "No space left on device", "somewhere")

    monkeypatch.setattr(env, "run", fail)
    assert main(["env"]) == 1
    assert capsys.readouterr().err == "jaxablate: somewhere: no space left on device\n"


def test_env_names_versions_and_devices(capsys):
    import json

    import jax

    assert main(["env", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["jax"] == jax.__version__
    assert "cpu" in facts["devices"]
    assert main(["env"]) == 0
    assert f"jax               {jax.__version__}\n" in capsys.readouterr().out
