"""An application of WSGI (PEP 3333) in threads: `gateway` is the handler, an `exchange` one request."""
