"""The gateway: who calls, which release answers, every token and call in one ledger.

Two doors in one process: the user door in front of predictors and assistants, the engine door in
front of every engine.
"""
