"""The site: Markdown pages, reference pages made of the code, notebooks that are run."""

import os
import sys
from importlib import metadata
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE / "_ext"), str(HERE.parent)]
os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Programs of notebooks run once or twice: compiling them quickly matters more than how they run.
FLAGS = (
    "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
    " --xla_cpu_parallel_codegen_split_count=1"
)
if metadata.version("jaxlib").startswith("0.10."):  # the older emitters compile in half the time
    FLAGS += " --xla_cpu_use_fusion_emitters=false"
os.environ.setdefault("XLA_FLAGS", FLAGS)
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(HERE.parent / "build" / "programs"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.05")
# Kernels of notebooks find the package where this build does.
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [sys.path[1], os.getenv("PYTHONPATH")]))

from jaxablate import __version__

project = "jaxablate"
author = "The jaxablate maintainers"
copyright = "The jaxablate maintainers, Apache-2.0"  # (Sphinx's name)
release = __version__

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "generated"]
exclude_patterns = ["_build", "_ext"]
nitpicky = True

# Markdown
myst_enable_extensions = ["attrs_inline", "colon_fence"]
myst_heading_anchors = 3
highlight_language = "text"  # of blocks without a language

# Notebooks run at build; outputs are kept beside the site, by the content of the cells.
nb_execution_mode = "cache"
nb_execution_cache_path = str(HERE.parent / "build" / "notebooks")
nb_execution_timeout = 120
nb_execution_raise_on_error = True
nb_execution_excludepatterns = []
nb_merge_streams = True

# Python reference
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
default_role = "literal"
# Types in signatures: those of other projects, whose pages an offline build does not know, and our
# own that have no entry in the reference.
nitpick_ignore_regex = [
    (
        r"py:class",
        r"(jax|jaxlib|jaxtyping|flax|numpy|collections|pathlib|typing)\b.*|ndarray|Array",
    ),
    (r"py:class", r"jaxablate\.(core|data|evaluation|models|runs|training)\..*"),
    (r"py:exc", r"Stopped|SaveError"),
]

# Appearance: no fonts or scripts from elsewhere.
html_theme = "furo"
html_title = f"jaxablate {release}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sphinx = False
html_last_updated_fmt = None
pygments_style = "friendly"
pygments_dark_style = "monokai"
