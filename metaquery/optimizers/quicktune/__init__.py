"""Quick-Tune (Arango et al., ICLR 2024): freeze-thaw fine-tuning guided by meta-trained predictors."""

from metaquery.optimizers.quicktune.optimizer import Quicktune

__all__ = ["Quicktune"]
