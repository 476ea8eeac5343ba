"""Published networks by name: ``model_zoo.get("efficientnet_lite0", pretrained=True)``.

A checkpoint of the zoo is a record (see :class:`ZooRecord`) and a file of weights, in the package
or in one of its own. Importing this package makes ``zoo://name`` and ``pypi://package/file`` valid
wherever fpnas reads a checkpoint.
"""

from fpnas.model_zoo.manifest import ModelInfo, get_record, info, list_models
from fpnas.model_zoo.pypi import PyPIHandler
from fpnas.model_zoo.record import Metric, SearchCost, ZooRecord
from fpnas.model_zoo.weights import ZooHandler, get_checkpoint_file, published_record
from fpnas.model_zoo.zoo import get, get_config, get_config_file, start_from
from fpnas.utils.cache import cache_folder
from fpnas.utils.file_io import path_manager

path_manager.register_handler(ZooHandler())
path_manager.register_handler(PyPIHandler())

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
    "published_record",
    "start_from",
]
