"""Devices as a (data, fsdp, tensor) mesh, and which logical axis lies along which of them."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from flax import linen as nn
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from jaxgpt.config import Config, MeshConfig
from jaxgpt.errors import UserError
from jaxgpt.model.gpt import padded_vocab_size
from jaxgpt.ops.sharding import DATA_AXIS

BATCH_AXES = (DATA_AXIS, "fsdp")

RULES = (
    ("batch", BATCH_AXES),
    ("vocab", "tensor"),
    ("stored_vocab", ("tensor", "fsdp")),  # rows of a table, which are gathered along fsdp for use
    ("embed", "fsdp"),
    ("heads", "tensor"),
    ("kv_heads", "tensor"),
    ("mlp", "tensor"),
    ("head_dim", None),
    ("positions", None),
    ("length", None),
    ("act_embed", None),  # activations keep their width whole
    ("layers", None),
)


def mesh_shape(config: Config, devices: int) -> tuple[int, int, int]:
    """Returns (data, fsdp, tensor); raises UserError where devices or batch do not divide so, whatever the model."""
    mesh = config.mesh
    fixed = mesh.fsdp * mesh.tensor
    data = mesh.data if mesh.data != -1 else max(1, devices // fixed)
    if data * fixed != devices:
        raise UserError(
            f"mesh: data {data} x fsdp {mesh.fsdp} x tensor {mesh.tensor} is {data * fixed} devices, but there are "
            f"{devices}; their product must be the number of devices"
        )
    shards, steps = data * mesh.fsdp, config.optimizer.grad_accumulation_steps
    if config.data.batch_size // steps % shards:
        raise UserError(
            f"data.batch_size: {config.data.batch_size} in {steps} micro-batches does not divide "
            f"over {shards} devices; it must be a multiple of {shards * steps}"
        )
    return data, mesh.fsdp, mesh.tensor


def make_mesh(config: Config, of: Sequence[Any] | None = None) -> Mesh:
    """Returns the mesh of all devices, or of these; raises UserError where the config does not divide over them."""
    mesh, model = config.mesh, config.model
    shape = mesh_shape(config, jax.device_count() if of is None else len(of))
    for name, axis, size in (
        ("model.embed_dim", "fsdp", model.embed_dim),
        ("model.num_heads", "tensor", model.num_heads),
        ("model.num_kv_heads", "tensor", model.kv_heads),
        ("model.mlp_dim", "tensor", model.mlp_size),
        ("model.vocab_size (padded)", "tensor", padded_vocab_size(model)),
    ):
        if size % getattr(mesh, axis):
            raise UserError(f"{name}: {size} does not divide over mesh.{axis} ({getattr(mesh, axis)} devices)")
    axis_types = (AxisType.Auto,) * 3
    names = "data", "fsdp", "tensor"
    if of is not None and len(of) == 1:  # JAX would arrange it as its neighbours stand
        return Mesh(np.array(of).reshape(shape), names, axis_types=axis_types)
    return jax.make_mesh(shape, names, axis_types=axis_types, devices=of)


def inference_mesh(trained_on: MeshConfig) -> Mesh:
    """Returns a mesh of this process's devices for one copy of a model: its shards of training, if they are so many.

    On fewer devices it has that many shards or a divisor of the number; a model that was not sharded is on the first.
    """
    devices = jax.local_devices()
    fsdp = next(n for n in range(trained_on.fsdp, 0, -1) if trained_on.fsdp % n == 0 and n <= len(devices))
    most = len(devices) // fsdp
    tensor = next(n for n in range(trained_on.tensor, 0, -1) if trained_on.tensor % n == 0 and n <= most)
    axis_types = (AxisType.Auto,) * 3
    used = devices[: fsdp * tensor]
    return jax.make_mesh((1, fsdp, tensor), ("data", "fsdp", "tensor"), axis_types=axis_types, devices=used)


def whole_beside(params: Any) -> Any:
    """Returns the sharding of an array that every device with parameters holds whole."""
    sharding = jax.tree.leaves(params)[0].sharding
    return NamedSharding(sharding.mesh, PartitionSpec()) if isinstance(sharding, NamedSharding) else sharding


def shardings_of(boxed: Any, mesh: Mesh) -> Any:
    """Returns the sharding of every array of a tree in which arrays may still carry their logical axis names."""

    def sharding(x: Any) -> Any:
        if not isinstance(x, nn.LogicallyPartitioned):
            return replicated(mesh)
        if not isinstance(x.value, jax.ShapeDtypeStruct):  # a parameter that this part of the optimizer leaves out
            return x.value
        names = [_axis_that_divides(name, size, mesh) for name, size in zip(x.names, x.value.shape, strict=True)]
        return NamedSharding(mesh, nn.logical_to_mesh(PartitionSpec(*names), RULES))

    return jax.tree.map(sharding, boxed, is_leaf=lambda x: isinstance(x, nn.LogicallyPartitioned))


def _axis_that_divides(name: str | None, size: int, mesh: Mesh) -> str | None:
    """Returns the name of a logical axis; "vocab" for a stored vocabulary that its shards do not divide.

    Such a table has its columns along fsdp, as other matrices have theirs.
    """
    shards = mesh.shape["tensor"] * mesh.shape["fsdp"]
    return "vocab" if name == "stored_vocab" and size % shards else name


def summed_over_devices(sums_of: Callable[..., Any]) -> Callable[..., Any]:
    """Returns a function like sums_of(state, batch, key) in which each device sums its own rows, and all meet once.

    Left to the compiler, they meet in each pass of a loop over micro-batches. So they do still where the model itself
    is sharded: a shard has no room for the sums of a whole model.
    """

    def of_one(*args: Any) -> Any:
        with nn.logical_axis_rules(()):
            return jax.lax.psum(sums_of(*args), DATA_AXIS)

    def of_all(state: Any, batch: Any, key: jax.Array) -> Any:
        mesh = jax.sharding.get_abstract_mesh()
        if mesh.size <= 1 or mesh.shape[DATA_AXIS] < mesh.size:  # of no mesh the size is 0
            return sums_of(state, batch, key)
        whole, rows = PartitionSpec(), PartitionSpec(DATA_AXIS)
        mapped = jax.shard_map(of_one, in_specs=(whole, rows, whole), out_specs=whole, check_vma=False)
        return mapped(state, batch, key)

    return of_all


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Returns the sharding of a batch's arrays: rows over all data-parallel devices."""
    return NamedSharding(mesh, PartitionSpec(BATCH_AXES))


def replicated(mesh: Mesh) -> NamedSharding:
    """Returns the sharding of what every device holds whole."""
    return NamedSharding(mesh, PartitionSpec())
