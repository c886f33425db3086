"""Findings: what the monitor noticed of a model, with the evidence, whichever kind it is."""
