"""Who may call, who called what, what it cost: keys, calls, prices, spool and store."""
