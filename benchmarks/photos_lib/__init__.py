"""Parts of photos.py."""
