"""`within`: measures a random sample of files, until mean and std are known well enough."""
