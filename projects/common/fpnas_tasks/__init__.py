"""What tasks on backbones of fpnas share, such as detection and segmentation."""
