"""One file per benchmark: how its records become questions, by the definition under which it is published.

A file defines
    DATA       names of its files in the data folder, without `.jsonl` and `.zst`
    HEADLINE   the metric that is named first
    SAMPLE     one record as it stands in the file, made up here; it documents the format and is tested
    items      items(record, source): the items of a record; `source` is the name in DATA that it came from
and may define
    SHOTS      how many worked examples stand before each question, where the standard is not none
    EXAMPLES   the files that those come from; without it they are other questions of the same benchmark
    FIRST      True: the examples are the first of the same part, not drawn
The docstring says whose definition it is; "harness" is EleutherAI's lm-evaluation-harness 0.4. See
docs/measure.md.
"""

from twofold.base.registry import Registry

TASKS = Registry("twofold.measure.tasks", "task", requires=("DATA", "HEADLINE", "SAMPLE", "items"))
"""The benchmarks of this folder."""
