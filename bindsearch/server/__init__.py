"""A server on this machine: the page, the JSON API, and answers to commands over a socket."""
