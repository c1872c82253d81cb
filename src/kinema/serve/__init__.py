"""Kinema as a service: a durable queue, workers that make videos, an HTTP API, a web page.

jobs.py      the queue: one table in SQLite or Postgres, every change a transaction
worker.py    one process a device: claims jobs, makes videos, reports; supervisor.py keeps them alive
api.py       what programs call: OpenAI-compatible /v1/videos and a few requests of our own; uploads.py, guard.py keep it safe
page.py      what people see
"""
