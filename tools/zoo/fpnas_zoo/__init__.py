"""Keeps the model zoo: what enters it, and the tables and pictures of MODEL_ZOO.md."""
