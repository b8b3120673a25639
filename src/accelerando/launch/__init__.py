"""Many runs: on this machine, or handed to a cluster."""
