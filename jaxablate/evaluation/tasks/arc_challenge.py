"""ARC, the challenge set: asked like the easy one."""

from jaxablate.evaluation.task import TASKS, Task
from jaxablate.evaluation.tasks.arc_easy import VARIANTS

TASK = TASKS.register("arc_challenge")(Task(data="arc_challenge", version=1, variants=VARIANTS))
