"""Parts of rank_correlation.py."""
