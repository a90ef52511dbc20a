"""What `metaquery recommend` needs of the builder: a new dataset measured, and a model trained on it."""

from corpus_builder.recommend.new_data import NewDataset, open_new_data

__all__ = ["NewDataset", "open_new_data"]
