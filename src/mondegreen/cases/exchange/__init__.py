"""Cases out of the store and back: CSV and Label Studio, without loss."""
