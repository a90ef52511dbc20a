"""Datasets: from a data card to arrays, groups, folds and rows of the corpus."""

from corpus_builder.datasets.cache import prepare_cached
from corpus_builder.datasets.cards import Card, card_names, load_card
from corpus_builder.datasets.check import Examination, examine
from corpus_builder.datasets.listing import listing
from corpus_builder.datasets.prepare import PreparedDataset, dataset_key, dataset_row, prepare
from corpus_builder.datasets.splits import roles, split_rows

__all__ = [
    "Card",
    "Examination",
    "PreparedDataset",
    "card_names",
    "dataset_key",
    "dataset_row",
    "examine",
    "listing",
    "load_card",
    "prepare",
    "prepare_cached",
    "roles",
    "split_rows",
]
