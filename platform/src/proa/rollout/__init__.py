"""Rollouts: how a release moves to all traffic and back (design §4)."""
