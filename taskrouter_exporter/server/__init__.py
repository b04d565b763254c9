"""The HTTP server: sockets, limits for clients, TLS and basic authentication."""
