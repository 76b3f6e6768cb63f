"""Prefetching changes when batches are made, nothing else."""

import threading

import pytest

from jaxgpt.data.prefetch import prefetch


def test_in_order():
    assert list(prefetch(lambda i: i * i, 3, 10)) == [i * i for i in range(3, 10)]
    assert list(prefetch(lambda i: i, 5, 5)) == []


def test_an_error_comes_where_its_item_would():
    def make(index):
        if index == 2:
            raise ValueError("bad batch")
        return index

    items = prefetch(make, 0, 5)
    assert [next(items), next(items)] == [0, 1]
    with pytest.raises(ValueError, match="bad batch"):
        next(items)


def test_the_thread_ends_with_the_iterator():
    items = prefetch(lambda i: i, 0, 1_000_000)
    next(items)
    items.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "prefetch"]
