"""Retraining: from findings to one request, its runs and exams, to a release. Pure rules."""
