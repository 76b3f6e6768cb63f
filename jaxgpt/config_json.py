"""A config as a run keeps it: JSON, and what older versions wrote there."""

import dataclasses
import json
import typing

from jaxgpt.allowed import validate
from jaxgpt.config import Config
from jaxgpt.errors import UserError, clipped
from jaxgpt.files import parse_json

RENAMED = {
    "model": {"tied_head": "tie_embeddings"},
    "data": {"whole_lines": "pack_lines", "all_paths": "oasst_all_paths"},
    "optimizer": {
        "accumulate": "grad_accumulation_steps",
        "final_fraction": "final_lr_fraction",
        "max_skipped": "max_consecutive_skips",
    },
}
"""Section -> what runs of version 0.1 call a field -> what it is called now."""


def to_json(config: Config) -> str:
    """Returns the config as JSON text that from_json reads back to an equal Config."""
    return json.dumps(dataclasses.asdict(config), indent=2) + "\n"


def from_json(text: str, source: str) -> Config:
    """Returns the Config written by to_json; raises UserError naming `source` where the text is anything else."""
    try:
        sections = parse_json(text)
        for section, names in RENAMED.items():
            for old in names.keys() & sections[section].keys():
                sections[section][names[old]] = sections[section].pop(old)
        if isinstance(remat := sections["model"].get("remat"), bool):  # as version 0.1 has it
            sections["model"]["remat"] = "full" if remat else "none"
        for section in ("objective", "lora"):  # as version 0.1 has it
            sections.setdefault(section, {})
        if isinstance(track := sections["run"].get("track"), list):  # JSON has no tuples
            sections["run"]["track"] = tuple(track)
        kinds = typing.get_type_hints(Config)
        config = Config(**{name: kind(**sections.pop(name)) for name, kind in kinds.items()})
        if sections:
            raise KeyError(f"unknown section {min(sections)}")
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise UserError(f"{source}: not a config of this version of jaxgpt ({clipped(str(error))})") from None
    return validate(config)
