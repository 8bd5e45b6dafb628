"""One ID's story, told from the log files. Reads only; imports nothing of `app`."""
