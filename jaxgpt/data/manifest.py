"""What a run was trained on, as its data.json says: checked when it is read, and named beside every number."""

import math
from typing import Any

from jaxgpt.config import DataConfig
from jaxgpt.errors import clipped, shown

COUNTS = {
    "text": ("lines", "tokens", "unk", "unknown", "unknown_bytes", "bytes", "floor_nats"),
    "chat": ("conversations", "kept", "tokens", "supervised", "unk_prompts", "unk_replies"),
}
"""What is known of each split, by the kind of data; manifests of older versions may know less."""

_FIELDS: dict[str, tuple[type, ...]] = {
    "name": (str,),
    "corpus": (str,),
    "fingerprint": (str,),
    "splits": (dict,),
    "fallback_for": (str, type(None)),
    "source": (str,),
    "notes": (list,),
}


def check_manifest(content: Any) -> dict[str, Any]:
    """Returns a manifest as it was read, completed where a key may be missing; ValueError says what is wrong in it."""
    if not isinstance(content, dict):
        raise ValueError(f"it is {type(content).__name__}, not an object")
    manifest = {"fallback_for": None, "source": "not named", "notes": []} | content
    if manifest.get("kind") not in tuple(COUNTS):
        raise ValueError(f"kind is {shown(manifest.get('kind'))}; it must be text or chat")
    for name, types in _FIELDS.items():
        if name not in manifest:
            raise ValueError(f"it has no {name}")
        if not isinstance(manifest[name], types):
            raise ValueError(f"{name} is {shown(manifest[name])}; it must be {types[0].__name__}")
    for name in ("tokenized", "lines_are_documents"):
        if not isinstance(manifest.get(name, True), bool):
            raise ValueError(f"{name} is {shown(manifest[name])}; it must be true or false")
    for split, counts in manifest["splits"].items():
        if not isinstance(counts, dict):
            raise ValueError(f"splits.{clipped(split)} is {shown(counts)}; it must be an object")
        for name, count in counts.items():
            if not (_is_number(count) or (name == "floor_nats" and count is None)):
                raise ValueError(f"splits.{clipped(split)}.{clipped(name)} is {shown(count)}; it must be a number")
        if counts.get("floor_nats") is not None and counts.get("tokens", 0) < 1:
            raise ValueError(f"splits.{clipped(split)} has floor_nats and no tokens")
    manifest["notes"] = [note if isinstance(note, str) else shown(note) for note in manifest["notes"]]
    return manifest


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e18 and math.isfinite(value)


def data_name(manifest: dict[str, Any]) -> str:
    """Returns how the data is named beside every number measured on it; a stand-in is called one."""
    if manifest["fallback_for"]:
        return f"{manifest['name']}, standing in for {manifest['fallback_for']}"
    return manifest["name"]


def lines_are_documents(manifest: dict[str, Any], config: DataConfig) -> bool:
    """Returns whether a text of this data ends with its line; for runs of older versions as far as can be known."""
    return manifest.get("lines_are_documents", config.pack_lines or manifest["name"] == "tinyworld")
