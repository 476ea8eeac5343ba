"""Detectors of torchvision on backbones of fpnas: config, data, training, evaluation, export."""
