"""The full recommender on Amazon Sports.

`--model SEA.paper` has the settings of the paper, `--model ReleasedSEA` the
arithmetic of its code.

python examples/amazon_sports.py --root data
"""

from _main import Published, main

# `alpha` from the scale of the released logs, `ureg` as shipped.
if __name__ == '__main__':
    weights = {'image': 0.1, 'text': 0.9}
    main('Sports', Published(alpha=0.55, ureg=0.006, weights=weights))
