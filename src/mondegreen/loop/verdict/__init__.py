"""The verdict on a candidate: what is compared, the rule, the looks that were spent, and ModelValidator."""
