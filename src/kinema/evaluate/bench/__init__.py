"""How fast each part runs on this machine and in how much memory, by itself or beside a rival given the same weights and inputs.

timing.py     rival pieces of work in turn, so that a busy machine slows all of them alike
memory.py     the peak of one piece of work, in a process of its own
sides.py      Kinema's side: each part built as the pipeline builds it
rivals.py     diffusers' side, from the same weights
cases.py      what is measured: the table of cases
endtoend.py   a prompt to a file, as a person would run it
measure.py    one case: do its sides agree, how long, how much memory
report.py     a table to read and JSON to keep
"""
