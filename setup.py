"""Packaging of fpnas. Tool settings live in pyproject.toml, tested versions in constraints.txt."""

from __future__ import annotations

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent

EXPORT = ["onnx>=1.16", "onnxruntime>=1.18", "onnxscript>=0.2"]
EXECUTORCH = ["executorch>=1.5"]
DETECTION = ["pycocotools>=2.0.8"]
DOCS = ["furo>=2024.8.6", "myst-parser>=4", "sphinx>=8"]
TEST = [
    "hypothesis>=6.100",
    "pytest>=8",
    "pytest-xdist>=3.5",
    "scikit-learn",
    "scipy",
    "setuptools>=68",
    "timm>=1.0",
]


def version() -> str:
    """The version that fpnas/__init__.py states, read without importing the package."""
    text = (ROOT / "fpnas" / "__init__.py").read_text(encoding="utf-8")
    return re.search(r'^__version__ = "(.+)"$', text, re.MULTILINE).group(1)


setup(
    name="fpnas",
    version=version(),
    description="Open implementation of FP-NAS: fast probabilistic neural architecture search",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.10",
    # Configs and model zoo stay at the top of the checkout, where people look for them. Installed,
    # they are the folders fpnas/configs and fpnas/model_zoo/entries; fpnas.config.find_config and
    # fpnas.model_zoo.manifest.zoo_folder know both places.
    packages=[
        *find_packages(include=["fpnas", "fpnas.*"]),
        "fpnas.configs",
        "fpnas.model_zoo.entries",
    ],
    package_dir={
        "fpnas": "fpnas",
        "fpnas.configs": "configs",
        "fpnas.model_zoo.entries": "model_zoo",
    },
    package_data={
        "fpnas": ["**/*.gz", "**/*.md", "**/LICENSE*", "**/*.yaml", "**/*.html"],
        "fpnas.configs": ["**/*.yaml"],
        "fpnas.model_zoo.entries": ["**/*.yaml", "**/*.safetensors", "**/*.md", "**/*.svg"],
    },
    install_requires=[
        "torch>=2.6",
        "torchvision>=0.21",
        "fvcore>=0.1.5.post20221221",
        "iopath>=0.1.10",
        "yacs>=0.1.8",
        "matplotlib>=3.8",
        "numpy>=1.26",
        "pillow>=10",
        "pyyaml>=6",
        "safetensors>=0.4.3",
        "tabulate>=0.9",
        "tensorboard>=2.16",
        "tqdm>=4.66",
    ],
    extras_require={
        "export": EXPORT,
        "executorch": EXECUTORCH,
        "detection": DETECTION,
        "docs": DOCS,
        "test": [*TEST, *EXPORT, *DETECTION],
        "dev": [*TEST, *EXPORT, *EXECUTORCH, *DETECTION, "ruff>=0.12"],
        "all": [*EXPORT, *EXECUTORCH, *DETECTION],
    },
    entry_points={"console_scripts": ["fpnas = fpnas.cli:main"]},
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Intended Audience :: Science/Research",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
)
