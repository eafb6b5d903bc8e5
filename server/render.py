"""Renderers by name: how the points of a study become something to look at or to listen to.

A study's renderer is "table" (its parameters, `server.render_table`), "picture" (what the picture, sound and text problems
bring along), "auto" (the latter where there is one, else the former), or a function of the user as `module:function`. Such a
function is pure: it takes a dict of parameter values and returns bytes of an image or a sound, text (SVG, HTML or plain), or
a pair of media type and data; see `server.rendering`. It runs in a process of its own, see `server.render_process`.
"""

from __future__ import annotations

import bbopt
from server.render_load import check_spec
from server.render_process import RenderProcess
from server.render_table import TableRenderer
from server.rendering import Renderer, RenderFailed, Rendering

__all__ = ["RenderFailed", "Renderer", "Rendering", "load_renderer"]


def load_renderer(spec: str, task: bbopt.Task, seconds: float = 10.0) -> Renderer:
    """The renderer that a spec names, for the points of a task, ready to be used; close it when done.

    seconds: time for one rendering of a renderer that runs in its own process. Raises bbopt.UsageError that says what is
    wrong with the spec, its module or its function.
    """
    if spec == "auto":
        spec = "table" if bbopt.problems.renderer_for(task) is None else "picture"
    if spec == "table":
        return TableRenderer(task)
    if spec != "picture":
        check_spec(spec)
    return RenderProcess(spec, task, seconds)
