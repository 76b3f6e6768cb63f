"""A run's model, loaded as its training had it."""

from jaxgpt.errors import UserError
from jaxgpt.verbs import Quantize


def load(path: str, quantize: Quantize = None, writes: bool = False):
    """Returns the trained run, JAX set up as its training had it; `writes` says that texts are to be generated."""
    import jax

    from jaxgpt.devices.setup import start_jax
    from jaxgpt.run.folder import load_run
    from jaxgpt.run.load import load_trained

    start_jax(load_run(path).config.data.cache_dir)
    if quantize and writes and jax.default_backend() == "cpu":
        raise UserError(
            f"quantize: {quantize} was given; on a CPU it writes more slowly than float32, so it is for a GPU or TPU; "
            "leave it out"
        )
    trained = load_trained(path, int8=quantize == "int8")
    if quantize:
        size = sum(x.nbytes for x in jax.tree.leaves(trained.params))
        print(f"{path}: weights in {quantize}, {size / 1e6:,.2f} MB", flush=True)
    return trained


def origin_of(path: str):
    """Returns the run's best checkpoint, not read yet, JAX set up as its training had it."""
    from jaxgpt.devices.setup import start_jax
    from jaxgpt.run.folder import load_run
    from jaxgpt.run.load import find_origin

    start_jax(load_run(path).config.data.cache_dir)
    return find_origin(path)
