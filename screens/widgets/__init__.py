"""What screens share: pages and their lines, tables, charts, and how figures and states are written."""
