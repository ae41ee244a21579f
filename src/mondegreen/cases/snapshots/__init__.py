"""Dataset versions: corrected cases frozen into data/failed_cases, behind gates, under git and DVC."""
