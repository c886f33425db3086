"""Guards: rules over what goes into a language model and what comes out. Pure; no model, no I/O."""
