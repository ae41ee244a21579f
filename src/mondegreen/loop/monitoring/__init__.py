"""What production does: inferences written down, statistics, drift, trends and alerts."""
