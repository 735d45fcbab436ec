"""`study`: why zero mean."""
