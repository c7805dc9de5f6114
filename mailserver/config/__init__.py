"""Configuration: the model of `mailserver.toml` and `accounts.toml`, and its loader."""
