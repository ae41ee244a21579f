"""Which transcripts look misheard, without a reference: features, calibration, evaluation."""
