"""Exams: what a candidate must pass, how it sits them, and the verdict, a pure rule (design §3)."""
