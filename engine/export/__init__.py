"""What leaves Workbench: a run's result as a model that others load without it, held against the run's own before it is said to be there."""
