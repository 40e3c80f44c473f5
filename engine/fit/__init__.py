"""Will a run fit its GPU, and how long will it take."""
