"""The controller: rollouts, admission and the journal."""
