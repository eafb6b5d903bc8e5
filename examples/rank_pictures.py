"""A study for people with a renderer of your own: which tree do you like best?

A renderer is a plain function from parameters to a picture (here SVG text; bytes of a PNG, a sound, HTML or plain text do as
well). This script makes a study of trees and has a simulated person rank six at a time. With a path it makes the study in
that store and starts the server, for people to rank in their browser: open the link that it prints.

Run it: python examples/rank_pictures.py [trees.db]
"""

import math
import os
import sys

import bbopt

SLATES = int(os.environ.get("BBOPT_EXAMPLE_BUDGET", "24"))


def picture(params: dict[str, float]) -> str:
    """A tree that forks eight times, as SVG."""
    lines: list[str] = []

    def grow(x: float, y: float, direction: float, length: float, forks: int) -> None:
        tip_x, tip_y = x + length * math.sin(direction), y - length * math.cos(direction)
        pen = f'stroke="hsl({params["hue"] * (1 - forks / 9):.0f} 55% {58 - 5 * forks}%)" stroke-width="{forks**1.4 / 2:.1f}"'
        lines.append(f'<path d="M{x:.1f} {y:.1f}L{tip_x:.1f} {tip_y:.1f}" {pen}/>')
        for side in (-1, 1) if forks > 1 else ():
            turn = side * math.radians(params["spread"]) + math.radians(params["lean"])
            grow(tip_x, tip_y, direction + turn, length * params["reach"], forks - 1)

    grow(200, 300, 0.0, params["trunk"], 8)
    paper = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 400 300" style="background:white">'
    return f"{paper}{''.join(lines)}</svg>"


ranges = {"spread": (5, 60), "lean": (-20, 20), "reach": (0.5, 0.85), "trunk": (30, 90), "hue": (0, 360)}
space = bbopt.Space({name: bbopt.Float(*bounds) for name, bounds in ranges.items()})
task = bbopt.Task(space, feedback="ranking")


def dislike(params: dict[str, float]) -> float:
    """What the simulated person feels: the distance from a tree that it has in mind."""
    in_mind = {"spread": 25.0, "lean": 4.0, "reach": 0.74, "trunk": 66.0, "hue": 110.0}
    return math.dist(space.encode(params), space.encode(in_mind))


if __name__ == "__main__" and sys.argv[1:]:
    bbopt.Optimizer.create_or_open(task, store=sys.argv[1], name="trees").close()
    words = ["serve", "--store", os.path.abspath(sys.argv[1]), "--rater", "me", "--renderer", "rank_pictures:picture"]
    os.chdir(os.path.dirname(os.path.abspath(__file__)))  # where the server looks for rank_pictures
    os.execv(sys.executable, [sys.executable, "-m", "bbopt.cli", *words])
elif __name__ == "__main__":
    opt = bbopt.Optimizer(task, seed=1)
    found = []
    for _ in range(SLATES):
        slate = sorted(opt.ask(6), key=lambda trial: dislike(trial.params))
        opt.rank(slate)
        found.append(slate[0].params)
    print(f"distance from the tree in mind: {dislike(found[0]):.2f} at first, {dislike(found[-1]):.2f} at last")
    print(f"its picture is {len(picture(found[-1])):,} characters of SVG")
