"""What speaks to the Kubernetes API: requests, watches, leader election."""
