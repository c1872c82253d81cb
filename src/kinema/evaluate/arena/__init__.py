"""A blind human study: which model's videos do people prefer, and how sure can one be?

study.py    what is compared: prompts, models, axes, and copies of the videos under names that say nothing
votes.py    the SQLite file that every vote reaches before the rater sees the next video
design.py   which videos a rater sees next: balanced, sides shuffled, some pairs again, some planted checks
server.py   the page and its four requests
strength.py Bradley-Terry strengths with ties; analysis.py every other figure; report.py the tables as people read them
"""
