"""Volumes in NIfTI files, read with MONAI's NibabelReader."""

from __future__ import annotations

import struct
import warnings
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from corpus_builder.datasets.volumes import canonical, check_grid
from metaquery.errors import InvalidData

if TYPE_CHECKING:
    from corpus_builder.datasets.tree import FileTree
    from corpus_builder.datasets.volumes import Volume

# What nibabel raises, beside its own errors, for bytes that make no volume.
_DAMAGE = (OSError, EOFError, ValueError, LookupError, TypeError, ArithmeticError, struct.error, zlib.error)


def read_nifti(tree: FileTree, path: str) -> Volume:
    """The volume in the .nii or .nii.gz file at `path` of `tree`, with the slope and intercept of its header applied.

    Axes of length one after the third are dropped. Raises InvalidData for anything but one whole 3-D volume.
    """
    from monai.data.image_reader import NibabelReader
    from nibabel.filebasedimages import ImageFileError
    from nibabel.spatialimages import HeaderDataError
    from nibabel.wrapstruct import WrapStructError

    tree.read(path)
    file = tree.inside(path)
    try:
        if not path.lower().endswith((".nii", ".nii.gz")):
            raise InvalidData("expected a file .nii or .nii.gz; convert it to NIfTI")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # remarks on headers; what matters is checked below
            reader = NibabelReader()
            affine = _checked_affine(str(file))
            values, _ = reader.get_data(reader.read(str(file)))
        return canonical(np.reshape(values, values.shape[:3]), affine)
    except InvalidData as error:
        raise InvalidData(f"{file}: {error}") from error
    except (*_DAMAGE, ImageFileError, HeaderDataError, WrapStructError) as error:
        detail = " ".join(str(error).split()) or type(error).__name__
        raise InvalidData(f"{file}: the volume is damaged, cut off or not NIfTI ({detail}); get it again") from error


def _checked_affine(file: str) -> NDArray[np.float64]:
    """The affine of the NIfTI at `file`, whose header must be that of a 3-D volume of real numbers."""
    import nibabel

    image: Any = nibabel.load(file)
    if not isinstance(image, nibabel.Nifti1Pair):
        raise InvalidData(f"expected a volume, got a {type(image).__name__} without voxels; convert it to NIfTI")
    shape = image.shape
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    kind = image.get_data_dtype()
    if kind.kind not in "iuf":
        raise InvalidData(f"expected voxels that are real numbers, got {kind}; convert the volume")
    affine = np.asarray(image.affine, dtype=np.float64)
    check_grid(shape, affine)
    return affine
