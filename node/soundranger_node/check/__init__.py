"""The command `check`: what is missing or wrong on this computer, and how to mend it.

Each module holds judgements, which are pure functions of values, and the probes that fetch these values.
"""
