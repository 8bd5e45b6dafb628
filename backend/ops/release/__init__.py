"""A release, from plan to sign-off: each step checked, done, verified and written down, and the way back."""
