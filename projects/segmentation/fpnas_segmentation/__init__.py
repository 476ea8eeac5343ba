"""Semantic segmentation: torchvision's LR-ASPP on backbones of fpnas."""
