"""How programs are compiled that run once or twice on a few numbers."""

import jax

# XLA's graphs are the same. The machine code is not optimized, and written by the older emitters where it has them.
QUICK: dict[str, bool | int] = {"xla_backend_optimization_level": 0}
if jax.__version_info__ < (0, 12):  # a later XLA ends the process at a flag that it does not know
    QUICK["xla_cpu_use_fusion_emitters"] = False
