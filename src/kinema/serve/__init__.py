"""Kinema as a service: a durable queue, workers that make videos, an HTTP API, a web page.

jobs.py      the queue: one table in SQLite or Postgres, every change a transaction
worker.py    one process a device: claims jobs and reports; makers.py makes their videos; supervisor.py keeps workers alive
orders.py    what may be asked for; speeches.py the same of an avatar; fitting.py what fits here, and how long it takes
api.py       what programs call: OpenAI-compatible /v1/videos and a few requests of our own; guard.py keeps it safe
uploads.py   pictures, videos and sounds that people give; intake.py opens them, within limits
page.py      what people see: a studio.py a tab, controls.py, takeover.py, show.py, words.py
replicas.py  the same on Ray Serve; load.py tries how much the service bears
"""
