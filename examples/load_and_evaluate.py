"""A network from a file, or from the zoo, and its accuracy by sampling, with the error that sampling has.

python examples/load_and_evaluate.py [MODEL]
"""

from __future__ import annotations

import sys

import outsample as osp

model = osp.load(sys.argv[1]) if len(sys.argv) > 1 else osp.zoo.handcrafted(10)
print(model)
print(model.standardized().W_hi)
for budget in (2**10, 2**14, 2**18):
    print(osp.MonteCarlo().estimate(model, budget=budget, rng=0))
