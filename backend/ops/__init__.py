"""What an operator runs: talks to the system over HTTP and processes, imports nothing of `app`."""
