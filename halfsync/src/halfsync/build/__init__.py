"""How a service is built: `python -m halfsync.build COMMAND`, which its Makefile runs by `.tools/bin/python`.

That Python has what tools.lock pins (pex, packaging, uv), and sees the library through `.venv`.
Nothing here is imported by a running service.
"""
