"""Join the policy and the workers: requests in, outcomes out. It does not know the command line."""
