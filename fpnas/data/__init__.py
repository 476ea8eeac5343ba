"""Data: labelled images by name, seeded splits, augmentation and loaders."""

from fpnas.data.build import (
    DATASET_REGISTRY,
    build_dataset,
    check_several_classes,
    describe,
    find_dataset,
    find_splits,
)
from fpnas.data.cache import cache_images
from fpnas.data.choose import choose_classes, match_classes, stratified_split
from fpnas.data.fingerprint import Fingerprint, SplitPrint, fingerprint
from fpnas.data.image_set import ImageFiles, ImageSet, TensorImages
from fpnas.data.loader import TestLoader, TrainLoader
from fpnas.data.preprocessing import Preprocessing, preprocessing

__all__ = [
    "DATASET_REGISTRY",
    "Fingerprint",
    "ImageFiles",
    "ImageSet",
    "Preprocessing",
    "SplitPrint",
    "TensorImages",
    "TestLoader",
    "TrainLoader",
    "build_dataset",
    "cache_images",
    "check_several_classes",
    "choose_classes",
    "describe",
    "find_dataset",
    "find_splits",
    "fingerprint",
    "match_classes",
    "preprocessing",
    "stratified_split",
]
