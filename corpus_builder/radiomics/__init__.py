"""Hand-crafted image features and classical classifiers on them: what users of radiomics compare networks with.

The features follow the Image Biomarker Standardisation Initiative (Zwanenburg et al., Radiology 2020) in kind, but are
computed here, with NumPy, SciPy, scikit-image and PyWavelets. The two radiomics libraries cannot stand beside the other
dependencies: the source package of pyradiomics 3.1 is broken and 3.0.1 does not build in isolation, and mirp needs
NumPy 2.4 or later, which DEHB forbids.
"""
