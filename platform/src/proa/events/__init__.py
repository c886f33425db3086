"""Events: what was decided from what, one JSON object per answer, label or feedback."""
