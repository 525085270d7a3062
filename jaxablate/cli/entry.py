"""Where every command starts and how each ends: an exit code, and one line if it went wrong."""

import errno
import importlib
import os
import sys
from collections.abc import Sequence
from typing import Any

from jaxablate import __version__
from jaxablate.cli.exit_codes import CLOSED_PIPE, DONE, FAILED, INTERRUPTED, STOPPED, USAGE
from jaxablate.cli.parser import Parser, examples
from jaxablate.cli.terminal import say
from jaxablate.core.errors import SaveError, Stopped, UserError, unknown

COMMANDS = {
    "quickstart": "the whole study on a small model that comes along, offline, in three minutes",
    "convert": "Hugging Face folder or hub id to a verified jaxablate folder, or back",
    "eval": "score multiple-choice tasks under one or more masks",
    "pretrain": "train a small decoder from nothing on text",
    "finetune": "train a checkpoint under a mask, or LoRA factors on it",
    "run": "evaluate and finetune a checkpoint in stages, with one report of them all",
    "sweep": "finetune once for each value of a setting",
    "report": "turn run folders into one HTML page and its Markdown twin",
    "card": "write a model card for a model trained from nothing",
    "runs": "list runs: how far each is and what it reached",
    "tail": "show the metrics of a run as they come",
    "mask": "draw a mask as text or PNG",
    "probe": "measure on a checkpoint what a mask lets through",
    "env": "versions and devices, for a bug report",
}

EXAMPLES = """
jaxablate quickstart
jaxablate mask prefix_lm --layout "P4 R3"
jaxablate eval Qwen/Qwen3-0.6B --tasks piqa,arc_easy --masks causal,prefix_lm --out runs/qwen
jaxablate report runs/qwen --out qwen-report
"""

# A path that is wrong is the user's input; a full disk or a failing one is not.
_WRONG_PATH = {
    errno.ENOENT, errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.EACCES, errno.EPERM,
    errno.ENAMETOOLONG, errno.ELOOP, errno.EROFS, errno.ENOTEMPTY,
}  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in words
    try:
        code = _dispatch([word for word in words if word != "--debug"])
        sys.stdout.flush()
    except SystemExit as stop:  # argparse ends --help this way
        code = stop.code if isinstance(stop.code, int) else DONE
    except KeyboardInterrupt:
        say("interrupted; run the same command again to go on")
        code = INTERRUPTED
    except BrokenPipeError:
        # The reader is gone: point stdout at nothing, so that no write at exit complains.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = CLOSED_PIPE
    except Stopped as stop:
        say(f"{stop}; run the same command again to go on")
        code = STOPPED
    except SaveError as error:
        say(str(error))
        # What was writing may hang for ever: no waiting for its threads.
        sys.stdout.flush()
        os._exit(FAILED)
    except UserError as error:
        if debug:
            raise
        say(str(error))
        code = USAGE
    except OSError as error:
        if debug:
            raise
        say(_os_sentence(error))
        code = USAGE if error.errno in _WRONG_PATH else FAILED
    return code


def _dispatch(words: list[str]) -> int:
    if not words or words[0].startswith("-"):
        return _top_level(words)
    name, rest = words[0], words[1:]
    if name == "help":
        return _dispatch([*rest[:1], "--help"])
    module, parser = load_command(name)
    return module.run(parser.parse_args(rest))


def load_command(name: str) -> tuple[Any, Parser]:
    """A command's module and the parser of its arguments."""
    if name not in COMMANDS:
        raise unknown("command", name, COMMANDS)
    module = importlib.import_module(f"jaxablate.cli.{name}")
    parser = Parser(
        prog=f"jaxablate {name}",
        description=module.__doc__,
        epilog=examples(module.EXAMPLES),
    )
    module.add_arguments(parser)
    return module, parser


def _top_level(words: list[str]) -> int:
    listing = "\n".join(f"  {name:<11}{summary}" for name, summary in COMMANDS.items())
    parser = Parser(
        prog="jaxablate",
        usage="jaxablate COMMAND [ARGUMENTS]",
        description="Attention masks as explicit rules, for Hugging Face decoder checkpoints.\n\n"
        f"commands (each has its own --help):\n{listing}",
        epilog=examples(EXAMPLES),
    )
    parser.add_argument("--version", action="version", version=f"jaxablate {__version__}")
    parser.parse_args(words)
    parser.print_help(sys.stderr)
    return USAGE


def _os_sentence(error: OSError) -> str:
    where = f"{error.filename}: " if error.filename else ""
    return f"{where}{(error.strerror or str(error)).lower()}"
