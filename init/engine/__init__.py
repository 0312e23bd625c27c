"""Run requests on workers, as the policy decides, and return their outcomes. It does not know the command line."""
