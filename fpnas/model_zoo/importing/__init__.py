"""Weights of other projects, mapped to our names: ``fpnas zoo import``."""

from fpnas.model_zoo.importing.importers import (
    IMPORTERS,
    import_file,
    import_to_file,
    import_weights,
)

__all__ = ["IMPORTERS", "import_file", "import_to_file", "import_weights"]
