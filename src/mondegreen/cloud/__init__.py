"""Training on a machine of Google Cloud: what it gets, what it does, what comes back."""
