"""TaskRouter's HTTP API: client, connections, credentials and errors."""
