"""What a tuned model gained, forgot, contradicts and makes up, against its base."""
