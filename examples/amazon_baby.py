"""The full recommender on Amazon Baby.

`--model SEA.paper` has the settings of the paper, `--model ReleasedSEA` the
arithmetic of its code.

python examples/amazon_baby.py --root data               # the published files
python examples/amazon_baby.py --dataset demo            # no files needed
python examples/amazon_baby.py --dataset my/catalogue \\
    --modality image=image_feat.npy --modality text=text_feat.npy
"""

from _main import Published, main

# `alpha` from the scale of the released logs, `ureg` as shipped.
if __name__ == '__main__':
    weights = {'image': 0.1, 'text': 0.9}
    main('Baby', Published(alpha=0.55, ureg=0.006, weights=weights))
