"""Classical classifiers on hand-crafted features, as members of the portfolio; `corpus_builder.radiomics` has both."""

from __future__ import annotations

from typing import get_args

from corpus_builder.backbones.spec import ClassicalSpec, Classifier

SPECS = tuple(
    ClassicalSpec(
        name=f"{features}.{classifier}", n_dims=n_dims, classifier=classifier, licence="Apache-2.0", source="MedCurves"
    )
    for features, n_dims in (("radiomics", 2), ("radiomics_3d", 3))
    for classifier in get_args(Classifier)
)
