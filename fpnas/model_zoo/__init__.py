"""Named architectures as ready networks: ``model_zoo.get("fp_nas_s1")``."""

from fpnas.model_zoo.zoo import get, get_config, list_models

__all__ = ["get", "get_config", "list_models"]
