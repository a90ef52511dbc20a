"""Which backbone, fine-tuned how, for a new dataset: what a corpus suggests, how sure it is, and training by it."""

from metaquery.recommend.held_out import HeldOut, held_out
from metaquery.recommend.knowledge import Knowledge, read_knowledge
from metaquery.recommend.recommendation import Recommendation, recommend

__all__ = ["HeldOut", "Knowledge", "Recommendation", "held_out", "read_knowledge", "recommend"]
