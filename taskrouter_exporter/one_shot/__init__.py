"""The command `query`: one question to TaskRouter, and its answer."""
