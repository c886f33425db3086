"""Profiles: what a release's data looked like, what it meets now, and how far they are apart."""
