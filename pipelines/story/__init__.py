"""The demo: chapters that tell the whole way on real data."""
