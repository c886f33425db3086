"""The monitor: events to windows, drift, quality and findings."""
