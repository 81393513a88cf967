"""The claims of figures 6 to 13 of fine-grained partitioning, each judged on measurements.

The paper's gaps between its schemes cannot be matched: with these constants the heuristics are far
above the optimum of a slot. What is judged is stated with every verdict; judgements compare means,
and the interval given is that of the number a verdict turns on.
"""
