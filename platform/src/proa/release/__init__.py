"""Releases: what decides how one model behaves, pinned by digest (design §2)."""
