"""What a run did and what its model has become, as pages to look at: the last room before the command line."""
