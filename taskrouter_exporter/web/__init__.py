"""What the HTTP server answers: routes, pages and exposition formats."""
