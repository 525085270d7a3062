"""Print the versions and devices that a bug report needs."""

import argparse
import importlib.metadata
import json
import platform
import sys

from jaxablate import __version__
from jaxablate.cli.parser import Parser
from jaxablate.core.text import visible

EXAMPLES = """
jaxablate env
jaxablate env --json > environment.json
"""

PACKAGES = (
    "jax", "jaxlib", "flax", "orbax-checkpoint", "safetensors", "tokenizers", "huggingface_hub",
    "numpy", "ml_dtypes", "lm-eval", "datasets",
)  # fmt: skip


def add_arguments(parser: Parser) -> None:
    """Declare the arguments."""
    parser.add_argument("--json", action="store_true", help="one JSON object in place of lines")


def run(args: argparse.Namespace) -> int:
    """Print the facts."""
    facts = environment()
    if args.json:
        print(json.dumps(facts, indent=1))
    else:
        width = max(map(len, facts))
        for name, value in facts.items():
            print(f"{name:<{width}}  {visible(value)}")
    return 0


def environment() -> dict[str, str]:
    """Versions by name, and the devices that jax sees."""
    import jax

    facts = {
        "jaxablate": __version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "executable": sys.executable,
    }
    for name in PACKAGES:
        try:
            facts[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            facts[name] = "not installed"
    facts["devices"] = ", ".join(str(device.device_kind) for device in jax.devices())
    return facts
