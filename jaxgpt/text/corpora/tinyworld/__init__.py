"""An embedded corpus: short stories of a small world with their exact probability, and conversations about it."""

from jaxgpt.text.corpora.tinyworld.stories import Story, log_prob, stories
from jaxgpt.text.corpora.tinyworld.talk import Dialogue, dialogues, fresh_questions

__all__ = ["Dialogue", "Story", "dialogues", "fresh_questions", "log_prob", "stories"]
