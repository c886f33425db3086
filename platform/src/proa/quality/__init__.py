"""Quality: what answers were worth once their truth is known, from states that merge exactly."""
