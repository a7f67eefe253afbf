"""The check of a user's model and guide: what is wrong with a pair, in words."""
