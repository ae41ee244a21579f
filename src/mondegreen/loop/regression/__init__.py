"""Regression suites: their index, their data, how they are run, judged and recorded."""
