"""The sample: 200 real recordings (100 clean, 100 noisy) made bit by bit the same on every machine."""
