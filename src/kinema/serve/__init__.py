"""Kinema as a service: a durable queue, workers that make videos, an HTTP API, a web page.

jobs.py      the queue: one table in SQLite or Postgres, every change a transaction
worker.py    one process a device: claims jobs, makes videos, reports; supervisor.py keeps them alive
api.py       what programs call: OpenAI-compatible /v1/videos and a few requests of our own; guard.py keeps it safe
uploads.py   pictures and videos that people give; intake.py opens them, within limits
page.py      what people see: a studio.py a tab, controls.py, takeover.py, show.py, words.py
replicas.py  the API on Ray Serve; load.py tries how much the service bears
"""
