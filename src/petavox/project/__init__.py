"""A run from raw data to a connectome: its description, its steps, and how far it is.

    project = load("cortex")              # a folder with petavox.yaml
    [s.name for s in project.steps]       # what it runs, in order
    project.find("neurons|objects")       # the segmentation, once it is there

What it is: the one way from petavox.yaml to a finished run. What it is not: a stage; those are in
petavox.stages, and each step here calls one.
"""

from petavox.project.project import Project, load
from petavox.project.records import StepState
from petavox.project.settings import FILE, ProjectSettings
from petavox.project.steps import STEPS, Step

__all__ = ["FILE", "STEPS", "Project", "ProjectSettings", "Step", "StepState", "load"]
