"""Models from elsewhere: found on a hub, fetched so that nothing is lost or forged, and put on the shelf

Nothing here runs unless the user asks for a model by its name. What a pulled model is called afterwards and
where it lies is known to run/pulled.py, so that whoever opens models needs nothing of this folder.
"""

from twofold.pull.pulling import Plan, carry_out, plan

__all__ = ["Plan", "carry_out", "plan"]
