"""Floor 2: what a person sees, a package per screen."""
