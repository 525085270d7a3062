"""Every test runs on the CPU as eight devices, in full precision, without silent promotion."""

import os
import tempfile
from importlib.metadata import version

os.environ["JAX_PLATFORMS"] = "cpu"
# Programs of tests run once or twice: compiling them quickly matters more than how they run.
os.environ["XLA_FLAGS"] = (
    "--xla_force_host_platform_device_count=8"
    " --xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
    " --xla_cpu_parallel_codegen_split_count=1"
)
if version("jaxlib").startswith("0.10."):  # the older emitters compile in half the time
    os.environ["XLA_FLAGS"] += " --xla_cpu_use_fusion_emitters=false"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp(prefix="jaxablate-tests-")
os.environ["HF_DATASETS_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
# Many tests compile the same small programs: both workers, and commands in processes of their
# own, find what any of them has compiled.
os.environ["JAX_COMPILATION_CACHE_DIR"] = (
    tempfile.gettempdir()
    + "/programs-"
    + os.environ.get("PYTEST_XDIST_TESTRUNUID", str(os.getpid()))
)
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.05"

import jax

jax.config.update("jax_default_matmul_precision", "highest")
jax.config.update("jax_numpy_rank_promotion", "raise")


# Started first, so that no worker is left with one of them at the end.
LONGEST = ("test_kills.py", "test_tiny.py")


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: item.path.name not in LONGEST)
