"""Weights files: where they come from, how they are read without executing them, what they must hold."""
