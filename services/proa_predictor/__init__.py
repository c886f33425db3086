"""The predictor: serves one classic release."""
