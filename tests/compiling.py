"""How programs are compiled that run once or twice on a few numbers."""

import os

import jax

# XLA's graphs are the same. The machine code is not optimized, written in one piece, and by the older emitters where
# XLA has them.
QUICK: dict[str, bool | int] = {"xla_backend_optimization_level": 0, "xla_cpu_parallel_codegen_split_count": 1}
if jax.__version_info__ < (0, 12):  # a later XLA ends the process at a flag that it does not know
    QUICK["xla_cpu_use_fusion_emitters"] = False

FLAGS = tuple(f"--{name}={str(value).lower()}" for name, value in QUICK.items())
# XLA_FLAGS of processes that compile as the commands do, and of those that compile quickly. Workers inherit the latter.
OPTIMIZED_FLAGS = " ".join(flag for flag in os.environ.get("XLA_FLAGS", "").split() if flag not in FLAGS)
QUICK_FLAGS = " ".join([*OPTIMIZED_FLAGS.split(), *FLAGS])
