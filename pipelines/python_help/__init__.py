"""Example project: answers about Python from its own documentation."""
