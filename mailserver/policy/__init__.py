"""Who may do what: connections, logins, relaying."""
