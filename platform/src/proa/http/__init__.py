"""What every proa process says on the wire: header names, rights, error bodies."""
