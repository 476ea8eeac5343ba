"""Published networks by name: ``model_zoo.get("efficientnet_lite0", pretrained=True)``.

A checkpoint of the zoo is a record (see :class:`ZooRecord`) and a file of weights, in the package
or in one of its own. Importing this package makes ``zoo://name`` and ``pypi://package/file`` valid
wherever fpnas reads a checkpoint.
"""

from fpnas.model_zoo.cache import cache_folder
from fpnas.model_zoo.handlers import register_handlers
from fpnas.model_zoo.names import get_record, list_models
from fpnas.model_zoo.record import Metric, SearchCost, ZooRecord
from fpnas.model_zoo.weights import get_checkpoint_file
from fpnas.model_zoo.zoo import ModelInfo, get, get_config, get_config_file, info

register_handlers()

__all__ = [
    "Metric",
    "ModelInfo",
    "SearchCost",
    "ZooRecord",
    "cache_folder",
    "get",
    "get_checkpoint_file",
    "get_config",
    "get_config_file",
    "get_record",
    "info",
    "list_models",
]
