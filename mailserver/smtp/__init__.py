"""SMTP engines without input or output of their own: octets in, events out, replies in, octets out.

`server.ServerConnection` and `client.ClientConnection` are the two ends; `events` is what the server's end tells.
"""
