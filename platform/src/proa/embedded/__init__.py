"""One machine, no root, no containers: processes as workloads under a small supervisor."""
