from types import SimpleNamespace

import jax.numpy as jnp
import pytest

from jaxgpt.devices import peak


@pytest.mark.parametrize(
    ("kind", "flops"), [("NVIDIA H100 80GB HBM3", 989e12), ("NVIDIA A100-SXM4-80GB", 312e12), ("TPU v5 lite", 197e12)]
)
def test_a_peak_is_the_published_one_of_this_kind(monkeypatch, kind, flops):
    monkeypatch.setattr(peak.jax, "devices", lambda: [SimpleNamespace(device_kind=kind)])
    assert peak.peak_flops(jnp.dtype("bfloat16")) == (flops, "published")


def test_elsewhere_a_peak_is_measured(monkeypatch):
    monkeypatch.setattr(peak, "product_flops", lambda dtype, size: 7.0)
    assert peak.peak_flops(jnp.dtype("bfloat16")) == (7.0, "measured")
    monkeypatch.setattr(peak.jax, "devices", lambda: [SimpleNamespace(device_kind="NVIDIA H100 80GB HBM3")])
    assert peak.peak_flops(jnp.dtype("float32")) == (7.0, "measured")


def test_a_product_is_timed_as_the_work_it_is():
    small, large = (peak.product_flops(jnp.dtype("float32"), size) for size in (64, 1024))
    assert 1e6 < small < large
