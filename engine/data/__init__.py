"""Examples: opened, mapped, rendered, tokenised, checked, split - without torch."""
